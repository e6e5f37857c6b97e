"""Texts of every kind, and how many tokens two real tokenizers make of each: what an estimate is held against.

The counts were made with OpenAI's `o200k_base` and `cl100k_base` (package `bpe-openai` 0.1.4), of the text alone.
"""

import base64
import json
import random
from collections.abc import Callable

WORDS = random.Random(7)
BYTES = WORDS.randbytes(1500)

ENGLISH = """The harbour was quiet that morning. Two fishermen mended their nets beside the old warehouse, and a gull
watched them from the roof. Nobody spoke of the storm that had passed in the night, although the splintered mast of the
schooner lay across the pier for everyone to see. "We will need new timber," said the elder at last, "and somebody who
knows how to work it." His companion nodded, tied a knot, and looked out at the water. Insurance would pay for half of
the damage, perhaps; the rest would have to come from a season that had hardly begun."""
GERMAN = """Die Verwaltungsgemeinschaft hat beschlossen, die Straßenbahnhaltestelle am Hauptbahnhof bis zum Frühjahr zu
verlegen. Während der Bauarbeiten fahren Ersatzbusse im Zehnminutentakt; Fahrgäste müssen mit Verspätungen rechnen. Der
Geschwindigkeitsbegrenzung auf der Umgehungsstraße wegen verlängert sich die Reisezeit außerdem um einige Minuten. Die
Rechtsschutzversicherungsgesellschaften prüfen noch, ob ihnen Mehrkosten entstehen."""
CHINESE = """清晨的港口十分安静。两个渔夫在旧仓库旁边修补渔网，一只海鸥在屋顶上看着他们。没有人谈起夜里过去的那场风暴，
尽管帆船折断的桅杆横在码头上，人人都看得见。年长的渔夫终于说道：“我们需要新的木料，还需要一个懂得怎样加工它的人。”
他的同伴点了点头，打了一个结，望着远处的海面。保险公司也许会赔偿一半的损失，其余的只能靠刚刚开始的渔季来弥补了。"""
JAPANESE = """その朝、港は静かだった。二人の漁師が古い倉庫のそばで網を繕い、一羽のカモメが屋根の上から二人を見ていた。
夜のうちに過ぎ去った嵐のことは誰も口にしなかったが、スクーナーの折れたマストは桟橋の上に横たわっていて、誰の目にも
見えた。「新しい木材が要るな」と年長の男がようやく言った。「それに、それを加工できる人間もだ」"""
RUSSIAN = """В то утро в гавани было тихо. Двое рыбаков чинили сети у старого склада, а чайка смотрела на них с крыши.
Никто не говорил о буре, прошедшей ночью, хотя сломанная мачта шхуны лежала поперёк причала у всех на виду."""
ARABIC = """كان الميناء هادئا في ذلك الصباح. كان صيادان يصلحان شباكهما بجانب المستودع القديم، وكان نورس يراقبهما من
السطح. لم يتحدث أحد عن العاصفة التي مرت في الليل، رغم أن صاري المركب المكسور كان ملقى على الرصيف أمام الجميع."""
CODE = '''def settle(self, hold: Hold, parts: Parts) -> Transfer | None:
    """Charge what was used, and release the rest."""
    if hold.state is not State.OPEN:
        return None
    for attempt in range(self.retries_max + 1):
        try:
            amount = min(self.price(parts) * self.markup // 1_000_000, NANOS_MAX)
            return self.ledger.post(debit=hold.wallet_id, credit=REVENUE, amount=amount, key=(hold.request_id, attempt))
        except SerializationFailure as error:
            logger.warning("retry %d of %s: %s", attempt, hold.request_id, error)
            time.sleep(0.05 * 2**attempt + random.random() / 100)
    raise NotDurable(f"{hold.request_id} was not settled after {self.retries_max} retries")
'''
RECORDS = json.dumps(
    [{"id": number * 7919, "sku": f"AX-{number:04}-{number * 31 % 97}", "price": number * 1.25, "tags": ["new", "sale"],
      "inStock": number % 2 == 0, "parentId": None} for number in range(12)],
    indent=2,
)  # fmt: skip

TEXTS: dict[str, str] = {
    "English": ENGLISH,
    "German": GERMAN,
    "Chinese": CHINESE,
    "Japanese": JAPANESE,
    "Russian": RUSSIAN,
    "Arabic": ARABIC,
    "code": CODE,
    "minified code": "".join(CODE.split()),
    "JSON": RECORDS,
    "dense JSON": json.dumps(json.loads(RECORDS), separators=(",", ":")),
    "CSV": "\n".join(
        f"{n},{n * 7919 % 1000},{n * n % 97 / 10},2026-{n % 12 + 1:02}-{n % 28 + 1:02}" for n in range(40)
    ),
    "numbers": " ".join(str(WORDS.randrange(10**12)) for _ in range(60)),
    "digits": "".join(WORDS.choices("0123456789", k=900)),
    "base64": base64.b64encode(BYTES).decode(),
    "hexadecimal": BYTES.hex(),
    "identifiers": " ".join(f"{BYTES[n : n + 16].hex()}" for n in range(0, 640, 16)),
    "random letters": "".join(WORDS.choices("abcdefghijklmnopqrstuvwxyz", k=900)),
    "shouting": ENGLISH.upper(),
    "emoji": "".join(WORDS.choices("😀😂🎉👍🏽🚀🌍🔥💡🍕🐙❤️✅", k=200)),
    "punctuation": "".join(WORDS.choices("!?.,;:-_()[]{}<>/|@#$%^&*+=~`'", k=600)),
    "indented": "\n".join(" " * (n % 9 * 4) + "- item" for n in range(80)),
    "mathematics": "∀x∈ℝ: ∃y ≥ 0, √(x²+1) ≤ |x| + y ⇔ ∑ᵢ αᵢ·βᵢ ≠ ∫₀^∞ e^{−t²} dt ≈ 0.886 " * 6,
}

# Text → its tokens by o200k_base and by cl100k_base.
COUNTS = {
    "English": (128, 129),
    "German": (98, 135),
    "Chinese": (148, 211),
    "Japanese": (136, 179),
    "Russian": (73, 108),
    "Arabic": (75, 140),
    "code": (185, 185),
    "minified code": (162, 163),
    "JSON": (745, 733),
    "dense JSON": (445, 421),
    "CSV": (599, 599),
    "numbers": (299, 299),
    "digits": (300, 300),
    "base64": (1355, 1425),
    "hexadecimal": (1681, 1675),
    "identifiers": (746, 746),
    "random letters": (462, 486),
    "shouting": (174, 182),
    "emoji": (299, 499),
    "punctuation": (406, 400),
    "indented": (310, 310),
    "mathematics": (390, 386),
}


def chat(text: str, *, ascii_only: bool = False) -> bytes:
    """Return a request with this one message."""
    body = {"model": "openai/gpt-4o", "messages": [{"role": "user", "content": text}]}
    return json.dumps(body, ensure_ascii=ascii_only).encode()


def embedding(text: str) -> bytes:
    """Return a request for one text's embedding."""
    return json.dumps({"model": "e", "input": text}, ensure_ascii=False, separators=(",", ":")).encode()


BODIES: dict[str, Callable[[str], bytes]] = {
    "chat": chat,
    "chat with escapes": lambda text: chat(text, ascii_only=True),
    "embedding": embedding,
}
