"""The script that counts in Redis: any number of operations in one call, each of them all or nothing.

KEYS are those of all operations, one after the other. ARGV holds for each operation a letter, the number of its keys,
a member, and four numbers for each key:

* `A` admit: need, least, amount, step in milliseconds. Windows count the need, or what fits of it, if the least fits
  everywhere; else none does. A need of 0 only looks. A step of 0 is a number of requests at once, in which MEMBER gets
  a slot.
* `E` end: change, step number, nothing, step in milliseconds. A change below zero gives back what that step still
  holds, one above zero counts now. A step of 0 frees MEMBER's slot.
* `R` renew: MEMBER's slot gets another lease.

The answer is flat: the time in milliseconds, and for each `A` whether it was admitted and, for each of its keys, what
counts, when all of it has left, when this request would be admitted (-1: never), and what it counts. A window is
a hash of its steps with `s`, their sum, `o`, its oldest step, and `n`, its newest. The arithmetic is that of
`gateway.limits.Window`.
"""

from gateway.limits import LEASE_MS, SLOT_RETRY_MS, STEPS

CONSTANTS = f"local STEPS, LEASE, SLOT_RETRY = {STEPS}, {LEASE_MS}, {SLOT_RETRY_MS}"
SCRIPT = (
    CONSTANTS
    + """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local out = {now}

local function steps_of(key)
    local fields, found = redis.call('HGETALL', key), {}
    for i = 1, #fields, 2 do
        local step = tonumber(fields[i])
        if step then found[#found + 1] = {step, tonumber(fields[i + 1]), fields[i]} end
    end
    table.sort(found, function(a, b) return a[1] < b[1] end)
    return found
end

-- Return what counts, the newest step, and whether the window holds any.
local function swept(key, length)
    local head = redis.call('HMGET', key, 's', 'o', 'n')
    if not head[1] then return 0, 0, false end
    local sum, first = tonumber(head[1]), math.floor(now / length) - STEPS
    if tonumber(head[2]) < first then
        local oldest, gone = nil, {}
        sum = 0
        for _, each in ipairs(steps_of(key)) do
            if each[1] < first then gone[#gone + 1] = each[3]
            else
                sum = sum + each[2]
                oldest = oldest or each[1]
            end
        end
        if not oldest then
            redis.call('DEL', key)
            return 0, 0, false
        end
        if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
        redis.call('HSET', key, 's', sum, 'o', oldest)
    end
    return sum, tonumber(head[3]), true
end

local function leaves(step, length) return (step + 1 + STEPS) * length - now end

local function retry(key, need, amount, length, sum)
    if need > amount then return -1 end
    for _, each in ipairs(steps_of(key)) do
        sum = sum - each[2]
        if sum + need <= amount then return leaves(each[1], length) end
    end
    return -1
end

local function count(key, need, length, known)
    local step = math.floor(now / length)
    redis.call('HINCRBY', key, step, need)
    local sum = redis.call('HINCRBY', key, 's', need)
    if known then redis.call('HSET', key, 'n', step)
    else redis.call('HSET', key, 'n', step, 'o', step) end
    redis.call('PEXPIRE', key, (STEPS + 1) * length)
    return sum, leaves(step, length)
end

local function admit(keys, args, member)
    local states, fits = {}, true
    for i, key in ipairs(keys) do
        local least, amount, length = args[4 * i - 2], args[4 * i - 1], args[4 * i]
        local state = {0, 0, 0, false}
        if length == 0 then
            redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
            state[1] = redis.call('ZCARD', key)
            if least > 0 and state[1] + least > amount then state[3] = SLOT_RETRY end
        else
            local newest
            state[1], newest, state[4] = swept(key, length)
            if state[1] > 0 then state[2] = leaves(newest, length) end
            if least > 0 and state[1] + least > amount then
                state[3] = retry(key, least, amount, length, state[1])
            end
        end
        if state[3] ~= 0 then fits = false end
        states[i] = state
    end
    out[#out + 1] = fits and 1 or 0
    for i, key in ipairs(keys) do
        local need, amount, length, state = args[4 * i - 3], args[4 * i - 1], args[4 * i], states[i]
        local taken = fits and math.max(0, math.min(need, amount - state[1])) or 0
        if taken > 0 then
            if length == 0 then
                redis.call('ZADD', key, now + LEASE, member)
                redis.call('PEXPIRE', key, LEASE)
                state[1] = state[1] + 1
            else state[1], state[2] = count(key, taken, length, state[4]) end
        end
        out[#out + 1], out[#out + 2], out[#out + 3], out[#out + 4] = state[1], state[2], state[3], taken
    end
end

local function finish(keys, args, member)
    for i, key in ipairs(keys) do
        local change, step, length = args[4 * i - 3], args[4 * i - 2], args[4 * i]
        if length == 0 then redis.call('ZREM', key, member)
        else
            local _, _, known = swept(key, length)
            local held = tonumber(redis.call('HGET', key, step) or 0)
            if change > 0 then count(key, change, length, known)
            elseif held > 0 then
                change = math.max(change, -held)
                redis.call('HINCRBY', key, 's', change)
                if held + change == 0 then redis.call('HDEL', key, step)
                else redis.call('HINCRBY', key, step, change) end
            end
        end
    end
end

local function renew(keys, _, member)
    for _, key in ipairs(keys) do
        redis.call('ZADD', key, now + LEASE, member)
        redis.call('PEXPIRE', key, LEASE)
    end
end

local OPERATIONS = {A = admit, E = finish, R = renew}
local key_at, arg_at = 1, 1
while arg_at <= #ARGV do
    local operation, n, member = OPERATIONS[ARGV[arg_at]], tonumber(ARGV[arg_at + 1]), ARGV[arg_at + 2]
    local keys, args = {}, {}
    for i = 1, n do keys[i] = KEYS[key_at + i - 1] end
    for i = 1, 4 * n do args[i] = tonumber(ARGV[arg_at + 2 + i]) end
    operation(keys, args, member)
    key_at, arg_at = key_at + n, arg_at + 3 + 4 * n
end
return out
"""
)
