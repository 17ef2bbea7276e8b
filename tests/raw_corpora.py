"""Small corpora in the raw layout of the recipes' data sets, with what goes wrong in the real ones.

Each function writes the archives to a folder, with expected.txt: the counts that the preparation must find. They
follow from what is written here; only the sizes of dictionaries are recorded from a run.
"""

import gzip
import hashlib
import io
import os
import random
import tarfile
import zipfile

# A pair of sentences: its words, English and German.
WORDS = [
    *[("the", "der"), ("house", "Haus"), ("old", "alte"), ("sees", "sieht"), ("river", "Fluss"), ("not", "nicht")],
    *[("well-known", "wohl-bekannte"), ("tree", "Baum"), ("goes", "geht"), ("water", "Wasser"), ("and", "und")],
    *[("street", "Straße"), ("today", "heute"), ("green", "grüne"), ("two", "zwei"), ("bridges", "Brücken")],
]
LANGUAGES = ("en", "de")


def sentences(rng, count, longest=12):
    """[(English, German)]"""
    pairs = []
    for _ in range(count):
        words = [rng.choice(WORDS) for _ in range(rng.randint(3, longest))]
        pairs.append(tuple(" ".join(w[side] for w in words).capitalize() + "." for side in (0, 1)))
    return pairs


def tar(path, files):
    """{name: bytes} -> path"""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def zipped(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def md5(path):
    with open(path, "rb") as f:
        return hashlib.md5(f.read()).hexdigest()


def write_expected(folder, counts):
    with open(os.path.join(folder, "expected.txt"), "w") as f:
        f.writelines(f"{name} {count}\n" for name, count in counts.items())


def dictionary_size(words):
    """With fairseq's four symbols, filled up to a multiple of 8."""
    return -(-(len(words) + 4) // 8) * 8


def lines(items):
    return "".join(item + "\n" for item in items).encode("utf-8")


# Pairs that must be kept as one pair, whatever a program takes for the end of a line.
ODD = [
    ("A line with a carriage return.\r", "Eine Zeile mit Wagenrücklauf.\r"),
    ("A NUL\0 in it.", "Ein\0 NUL darin."),
    ("Not the\u2028end of a\x85line.", "Kein\u2029Ende\x0bder\x0cZeile."),
    ("It’s “quoted” & <b>.", "Es ist „zitiert“ & <b>."),
]
LONG = ("word " * 200, "Wort " * 200)  # over 175 and 80 words
UNLIKE = ("one two three four five six seven eight nine ten", "eins")  # ratio 10
EMPTY = ("", "Nur auf einer Seite.")


def iwslt14_de_en(folder):
    rng = random.Random(1)
    good, talks = sentences(rng, 250) + ODD, 5
    pairs = good + [LONG, UNLIKE, EMPTY]
    files, per_talk = {}, -(-len(pairs) // talks)
    for side, language in enumerate(LANGUAGES):
        text = []
        for talk in range(talks):
            text += [f"<url>http://www.example.org/talks/{talk}</url>", "<keywords>talks, words</keywords>"]
            text += [f"<talkid>{talk}</talkid>", f"<title>{WORDS[talk][side]} title</title>"]
            text += [f"<description>{WORDS[talk][side]} described in words</description>"]
            # In the tagged text & and < are written as entities, and each line begins with a space.
            for pair in pairs[talk * per_talk : (talk + 1) * per_talk]:
                text.append(" " + pair[side].replace("&", "&amp;").replace("<", "&lt;"))
        files[f"de-en/train.tags.de-en.{language}"] = lines(text)
    names = ["TED.dev2010", "TED.tst2010", "TED.tst2011", "TED.tst2012", "TEDX.dev2012"]
    for name in names:
        test = sentences(rng, 3) + [("It’s here &amp; there.", "Es ist’s hier &amp; da.")]
        for side, language in enumerate(LANGUAGES):
            text = [
                '<?xml version="1.0" encoding="UTF-8"?>',
                "<mteval>",
                f'<refset><doc docid="1"><title>{name}</title>',
            ]
            text += [f'<seg id="{i}"> {pair[side]} </seg>\r' for i, pair in enumerate(test, 1)]
            files[f"de-en/IWSLT14.{name}.de-en.{language}.xml"] = lines(text + ["</doc></refset>", "</mteval>"])
    tar(os.path.join(folder, "de-en.tgz"), files)
    kept = len(good) + 2 * talks  # titles and descriptions count as sentences
    write_expected(
        folder,
        {"train": kept - kept // 23, "valid": kept // 23, "test": 4 * len(names), "dict.de": 64, "dict.en": 56},
    )


def wmt14_en_de(folder):
    rng = random.Random(2)
    parts = [sentences(rng, 80) + ODD + [LONG], sentences(rng, 60) + [UNLIKE, EMPTY], sentences(rng, 40)]
    archives = [
        ("de-en.tgz", "europarl-v7.de-en.{}"),
        ("training-parallel-commoncrawl.tgz", "commoncrawl.de-en.{}"),
        ("training-parallel-nc-v11.tgz", "training-parallel-nc-v11/news-commentary-v11.de-en.{}"),
    ]
    for (archive, name), part in zip(archives, parts):
        both = {name.format(language): lines(pair[side] for pair in part) for side, language in enumerate(LANGUAGES)}
        tar(os.path.join(folder, archive), {**both, "readme.txt": b"other files are there, too"})
    valid, test = (
        sentences(rng, 12),
        sentences(rng, 9) + [("Well-known: it’s 5-to-1.", "Wohl-bekannt: 5-zu-1 &amp; mehr.")],
    )
    files = {}
    for side, language in enumerate(LANGUAGES):
        files[f"dev/newstest2013.{language}"] = lines(pair[side] for pair in valid)
        kind = {"en": "ref", "de": "src"}[language]
        text = [f'<{kind}set setid="newstest2014" trglang="any">', '<doc docid="1" genre="news">', "<p>"]
        text += [f'<seg id="{i}">{pair[side]}</seg>' for i, pair in enumerate(test, 1)]
        files[f"dev/newstest2014-deen-{kind}.{language}.sgm"] = lines(text + ["</p>", "</doc>", f"</{kind}set>"])
    tar(os.path.join(folder, "dev.tgz"), files)
    words = sum(len(pair[1].replace(".", " .").split()) for pair in test[:-1]) + len(
        "Wohl-bekannt : 5-zu-1 & mehr .".split()
    )
    hyphens = sum(pair[1].count("-") for pair in test)
    write_expected(
        folder,
        {
            **{"train": 180 + len(ODD), "valid": 12, "test": 10, "test.de.words": words},
            **{"test.de.words.compounds-split": words + 2 * hyphens, "dict.en": 128, "dict.de": 128},
        },
    )


def story(article, highlights):
    text = "\n\n".join(article)
    return (text + "".join(f"\n\n@highlight\n\n{h}" for h in highlights)).encode("utf-8")


def multi30k_en_de(folder):
    rng = random.Random(7)
    splits = {"train": sentences(rng, 250) + ODD, "val": sentences(rng, 11), "test_2016_flickr": sentences(rng, 9)}
    sums = {}
    for split, pairs in splits.items():
        for side, language in enumerate(LANGUAGES):
            name = f"{split}.{language}.gz"
            with gzip.GzipFile(os.path.join(folder, name), "wb", mtime=0) as f:
                f.write(lines(pair[side] for pair in pairs))
            sums[name] = f"md5 {md5(os.path.join(folder, name))}"
    write_expected(folder, {**sums, "train": 254, "valid": 11, "test": 9, "dict.en": "unknown", "dict.de": "unknown"})


def cnn_dm(folder):
    rng = random.Random(3)
    stories = {"cnn": {}, "dailymail": {}}
    urls = {"train": [], "val": [], "test": []}

    def add(site, split, article, highlights):
        url = f"http://www.{site}.example/{split}/{len(urls[split])}.html"
        urls[split].append(url)
        stories[site][f"{site}/stories/{hashlib.sha1(url.encode()).hexdigest()}.story"] = story(article, highlights)

    for number in range(60):
        split = {3: "val", 4: "test"}.get(number % 6, "train")
        text = [pair[0] for pair in sentences(rng, 4)]
        add(("cnn", "dailymail")[number % 2], split, text, [text[0][:-1], text[2]])
    long = [f"Sentence {i} has exactly seven words." for i in range(100)]
    add("cnn", "train", long, ["Too long."])
    add("cnn", "train", [], ["An article that is empty."])  # dropped
    add("dailymail", "test", [], ["It is empty but a test story."])  # not dropped
    add("cnn", "val", text, ["the house and " * 500])  # longer than models read
    odd = ["It\r", "a NUL\0 and\u2028a line", "“Quoted”", "No full stop"]
    add("dailymail", "val", odd, ["First sentence", "Second: it’s <odd>!"])
    for site, files in stories.items():
        tar(os.path.join(folder, f"{site}_stories.tgz"), files)
    for split, addresses in urls.items():
        with open(os.path.join(folder, f"all_{split}.txt"), "w", newline="") as f:
            f.writelines(address + "\r\n" for address in addresses)
    write_expected(
        folder,
        {
            **{f"{site}_stories.tgz": "md5 " + md5(os.path.join(folder, f"{site}_stories.tgz")) for site in stories},
            **{f"{site}_stories": len(files) for site, files in stories.items()},
            **{f"all_{split}": len(addresses) for split, addresses in urls.items()},
            **{"train": len(urls["train"]) - 1, "valid": len(urls["val"]), "test": len(urls["test"])},
            **{"dict.source": 64, "dict.target": 64},
        },
    )


def wikitext103(folder):
    rng = random.Random(4)
    files, counts, words = {}, {}, set()
    for split, count in (("train", 250), ("valid", 8), ("test", 8)):
        text = [" ", " = A heading = ", " "]
        for number, (english, _) in enumerate(sentences(rng, count)):
            text.append(f" {english[:-1].lower()} @-@ <unk> . ")
            if number % 10 == 9:
                text += [" ", " = = Another one = = ", " "]
        text.append(" caf\u00e9 \u2013 a\x85b\u2028c \r")
        words |= {word for line in text for word in line.split()} - {"<unk>"}
        files[f"wikitext-103/wiki.{split}.tokens"] = lines(text)
        counts[split] = len(text)
        counts[f"{split}.tokens"] = sum(len(line.split()) + 1 for line in text)
    zipped(os.path.join(folder, "wikitext-103-v1.zip"), files)
    archive = {"wikitext-103-v1.zip": "md5 " + md5(os.path.join(folder, "wikitext-103-v1.zip"))}
    write_expected(folder, {**archive, **counts, "dict": dictionary_size(words)})


def enwik8(folder, size=1_000_000):
    rng = random.Random(5)
    text = b"<mediawiki>\n  <page>\r\n\0\n"
    text += "".join(f"{german} {english}\n\n" for english, german in sentences(rng, 100)).encode("utf-8")
    text = (text * (size // len(text) + 1))[: size - 1] + b"x"
    zipped(os.path.join(folder, "enwik8.zip"), {"enwik8": text})
    counts = {"bytes": size}
    for split, start, end in (("train", 0, 90), ("valid", 90, 95), ("test", 95, 100)):
        part = text[size * start // 100 : size * end // 100]
        unended = not part.endswith(b"\n")
        counts[split] = part.count(b"\n") + unended
        counts[f"{split}.tokens"] = len(part) + unended
    symbols = set(text[: size * 90 // 100]) - {ord("\n")}
    write_expected(folder, {**counts, "dict": dictionary_size(symbols)})


def char_ptb(folder):
    rng = random.Random(6)
    files, counts, symbols = {"./simple-examples/README": b"other files are there, too"}, {}, set()
    for split, count in (("train", 250), ("valid", 8), ("test", 8)):
        text = [" ".join(english[:-1].lower().replace(" ", "_")) + " " for english, _ in sentences(rng, count)]
        text[0] = "< u n k > _ " + text[0]
        files[f"./simple-examples/data/ptb.char.{split}.txt"] = lines(text)
        counts[split] = count
        counts[f"{split}.tokens"] = sum(len(line.split()) + 1 for line in text)
        symbols |= {symbol for line in text for symbol in line.split()}
    tar(os.path.join(folder, "simple-examples.tgz"), files)
    write_expected(folder, {**counts, "dict": dictionary_size(symbols)})


CORPORA = {f.__name__: f for f in (iwslt14_de_en, wmt14_en_de, multi30k_en_de, cnn_dm, wikitext103, enwik8, char_ptb)}
