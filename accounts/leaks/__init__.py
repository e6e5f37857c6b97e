"""Keys that were found where anybody can read them: revoked in the request that tells, replaced and told of after it.

`revocation` is the one way in, whoever reports: GitHub, TruffleHog, a command, the admin, a scan. The rows of
`Leak` are the queue of what is left to do (`aftermath`) and the record of what happened.
"""
