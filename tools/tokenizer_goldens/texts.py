"""The texts that goldens are made of: (name, text), in many scripts and at the edges of Unicode."""

SCRIPTS = [
    ("latin", "The quick brown fox jumps over the lazy dog."),
    ("german", "Größere Übungen für müde Füße — „sehr schön“, sagte Jürgen."),
    ("french", "L'été dernier, à Nîmes, où le cœur naïf d'Émile s'éveillait…"),
    ("vietnamese", "Tiếng Việt rất đẹp, nhưng dấu thanh thật khó."),
    ("turkish", "İstanbul'un ılık ışıkları; ĞÜŞİÖÇ ğüşıöç"),
    ("polish", "Zażółć gęślą jaźń, 25 zł."),
    ("chinese", "今天天气很好，我们一起去公园散步吧！人工智能正在改变世界。"),
    ("chinese_traditional", "這是一個關於語言模型的測試，包含標點符號：「引號」、頓號。"),
    ("japanese", "東京タワーはとても高いです。カタカナとひらがなと漢字。ﾊﾝｶｸ"),
    ("korean", "안녕하세요, 오늘은 날씨가 정말 좋네요. ㅋㅋㅋ"),
    ("arabic", "مرحبا بالعالم، كيف حالك اليوم؟ ٠١٢٣٤٥٦٧٨٩"),
    ("arabic_vocalised", "بِسْمِ ٱللَّٰهِ ٱلرَّحْمَٰنِ ٱلرَّحِيمِ"),
    ("persian", "می‌خواهم کتاب‌ها را بخوانم ۱۲۳"),
    ("hebrew", "שלום עולם, מה שלומך? נִקּוּד"),
    ("devanagari", "नमस्ते दुनिया, आप कैसे हैं? क्षत्रिय १२३"),
    ("bengali", "আমি বাংলায় গান গাই।"),
    ("tamil", "வணக்கம் உலகம்"),
    ("thai", "สวัสดีชาวโลก วันนี้อากาศดีมาก ๑๒๓"),
    ("khmer", "សួស្តី​ពិភពលោក"),
    ("tibetan", "བཀྲ་ཤིས་བདེ་ལེགས།"),
    ("cyrillic", "Съешь же ещё этих мягких французских булок, да выпей чаю."),
    ("ukrainian", "Щастям б'єш жук їх глицю в фон й ґедзь пріч."),
    ("greek", "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. Ὦ ἄνδρες Ἀθηναῖοι"),
    ("georgian", "გამარჯობა მსოფლიო, ᲗᲑᲘᲚᲘᲡᲘ"),
    ("armenian", "Բարեւ աշխարհ"),
    ("ethiopic", "ሰላም ልዑል"),
    ("cherokee", "ᎣᏏᏲ ᎡᎶᎯ ꭰꭱ"),
    ("deseret", "𐐔𐐯𐑅𐐨𐑉𐐯𐐻"),
    ("mathematical", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟘𝟙𝟚 ∑∞ ∂x/∂y ≤ √2"),
    ("mixed", "Hello世界! Привет мир123、안녕 world٣٤"),
]

CODE = [
    ("python", 'def fib(n: int) -> int:\n    """Return F(n)."""\n    if n < 2:\n        return n\n'
               "\treturn fib(n-1) + fib(n - 2)  # slow\n"),
    ("cpp", "template <typename T>\nstd::vector<T> f(const T* p, size_t n) {\n"
            "  return {p, p + n};  // O(n)\n}\n#define X(a,b) a##b\n"),
    ("json", '{"key": [1, 2.5e-10, true, null], "nested": {"a\\n": "\\u00e9"}}'),
    ("html", '<!DOCTYPE html>\n<div class="a-b" id=\'c\'>&amp;&nbsp;</div>\n'),
    ("shell", "for f in *.txt; do\n\techo \"$f\" | sed 's/a/b/g' >> /tmp/out 2>&1\ndone"),
    ("latex", "\\begin{align}\n  E &= mc^2 \\\\\n  \\int_0^1 x\\,dx &= \\frac{1}{2}\n\\end{align}"),
    ("markdown", "# Title\n\n- item *one*\n- item `two`\n\n```c\nint x;\n```\n| a | b |\n|---|---|"),
    ("path", "C:\\Users\\x\\file.txt /usr/local/bin https://example.org/a?b=c&d=%20#e"),
    ("operators", "a+=b; c<<=1; x?.y ?? z; ->* :: ... === !== <=> && || ~^|"),
    ("identifiers", "camelCaseName snake_case_name SCREAMING_CASE kebab-case x1y2z3 __init__"),
]

SPACE = [
    ("empty", ""),
    ("one_space", " "),
    ("leading_space", " leading"),
    ("leading_spaces", "   leading"),
    ("trailing_space", "trailing "),
    ("trailing_spaces", "trailing     "),
    ("inner_spaces", "a  b   c    d     e"),
    ("many_spaces", "x" + " " * 300 + "y"),
    ("tabs", "\ta\t\tb\t\t\tc\t"),
    ("newlines", "a\nb\n\nc\n\n\nd\n\n\n\n"),
    ("crlf", "line one\r\nline two\r\n\r\nline four\r\n"),
    ("carriage_returns", "a\rb\r\rc"),
    ("spaces_and_newlines", "a \n b \n\n  c\n   \n\t\n d   \n"),
    ("only_newlines", "\n\n\n"),
    ("only_mixed", " \n \t \r\n  "),
    ("other_spaces", "a\u00a0b\u2003c\u3000d\u200be\u202ff\u1680g\u180eh\u205fi"),
    ("line_separators", "a\u2028b\u2029c\u0085d\u000be\u000cf"),
]

NUMBERS = [
    ("digits", "1 12 123 1234 12345 123456 1234567 12345678"),
    ("decimals", "3.14159, 1,000,000.50 -42 +7 1e10 0x1F 0b101"),
    ("dates", "2024-02-29T23:59:60Z 12:34 31/12/1999"),
    ("other_digits", "①②③ ½ ¾ Ⅷ ৪৫ ٣٤ ๑๒ 一二三 ²³"),
    ("digits_and_letters", "abc123def 4x4 1st 2nd v1.2.3-rc4 10km 5%"),
]

WORDS = [
    ("contractions", "I'm you're he's we'll they've I'd can't won't it'S WE'LL I'M YOU'RE"),
    ("curly_contractions", "I’m you’re he’s we’ll it‘s"),
    ("long_s", "it'\u017f a '\u017f test '\u212a"),
    ("bare_contractions", "'s 't 're 've 'm 'll 'd ''s 'sx 'LLx"),
    ("possessives", "the dogs' James's 90's rock'n'roll O'Neill"),
    ("punctuation", "!!! ??? ... --- ___ ((())) [[]] {{}} <<>> “” ‘’ «» ¿¡ …—–"),
    ("cjk_punctuation", "，。！？、；：「」『』（）【】《》～〜・　"),
    ("repeated", "ha" * 50 + " " + "=" * 120 + " " + "a" * 1000),
    ("carets", "^" * 500),
    ("capitals", "THE QUICK BROWN FOX JUMPS. iPhone McDonald's NASA's eBay"),
]

UNICODE = [
    ("emoji", "😀 🎉 👍🏽 ❤️ 🇩🇪 1️⃣ ☃"),
    ("emoji_zwj", "👨‍👩‍👧‍👦 🏳️‍🌈 👩🏿‍🚀 🧑‍💻"),
    ("combining", "e\u0301 a\u0308o\u0302 n\u0303 x\u0323\u0307 \u0301alone"),
    ("composed", "\u00e9 \u00e4 \u00f4 \u00f1 \u1e8b\u0323 \u00c5 \u212b \u03a9 \u2126 \u212a"),
    ("jamo", "\u1112\u1161\u11ab\u1100\u1173\u11af 한글"),
    ("zalgo", "Z\u0351\u036b\u0343a\u0363\u0346l\u0348g\u0321o\u032b"),
    ("ligatures", "ﬁ ﬀ ﬆ ﷺ Ａｂｃ１２３ ㎏ ℃"),
    ("controls", "a\u0000b\u0001c\u001bd\u007fe\u0090f"),
    ("byte_order_mark", "\ufeffstart mid\ufeffdle"),
    ("direction_marks", "\u202eabc\u202c \u2066x\u2069 \u200f\u200e"),
    ("noncharacters", "\ufdd0 \ufffe \uffff \U0010ffff"),
    ("private_use", "\ue000\uf8ff\U000f0000"),
    ("replacement", "\ufffd\ufffd a\ufffdb"),
    ("rare_planes", "𠀀𪚥 𒀀 𓂀 🀄 𝄞"),
    ("soft_hyphen", "co\u00adoperate zero\u200bwidth word\u2060joiner"),
]

# Spellings of control and user-defined tokens, whole, in part and beside each other.
SPECIAL = [
    ("r1_turn", "<｜begin▁of▁sentence｜>You are kind.<｜User｜>Hi!<｜Assistant｜><think>\nHm.\n</think>\n\nHello"
                "<｜end▁of▁sentence｜>"),
    ("r1_partial", "<｜User <｜User｜ ｜User｜> <|User|> <｜Assistant｜"),
    ("think", "<think></think><think>a</think> <think> <<think>> </think>\n\n <thin <Think>"),
    ("tool_call", "<tool_call>\n{\"name\": \"f\"}\n</tool_call>"),
    ("chatml", "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"),
    ("endoftext", "a<|endoftext|>b <|endoftext|> c<|endoftext|><|endoftext|>"),
    ("fill_in_the_middle", "<|fim_prefix|>def f(<|fim_suffix|>)<|fim_middle|>x<fim_prefix>"),
    ("llama", "<s>[INST] Hi [/INST] Hello</s><s> a</s>b <unk> <pad>"),
    ("llama_bytes", "<0x0A> <0x-1> <0xZZ>"),
    ("unused", "[PAD151665] [PAD] <|quad_start|><|EOT|>"),
    ("sharp_s_in_special", "▁▁ ▁a Ġ Ċ ĠĠ"),
]

# Not trained on: words that small_vocabularies.py adds without merges.
UNTRAINED = [("unmerged_words", "Zebra is Quick, so is a Zebra")]

TEXTS = SCRIPTS + CODE + SPACE + NUMBERS + WORDS + UNICODE + SPECIAL + UNTRAINED
