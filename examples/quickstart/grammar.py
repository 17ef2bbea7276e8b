"""A small grammar of English and German: it makes up pairs of sentences that translate each other.

Read it from top to bottom: noun phrase, clause, sentence. The words are in vocabulary.py.
The English sentence always determines the German one, so that a model can learn every choice.
"""

from vocabulary import (  # a file of this folder
    CONJUNCTIONS,
    DAYS,
    EVENT_PREPOSITIONS,
    FOLLOWING,
    MODALS,
    MONTHS,
    NAMES,
    NOUN,
    NOUNS,
    OFTEN,
    PERSONAL,
    PLACE_PREPOSITION,
    PRONOUNS,
    SEIN,
    TIMES,
    TOWNS,
    WAR,
    number,
    pairs,
    verbs_for,
)

# ---- Noun phrase -------------------------------------------------------------------------------
# Endings for nominative, accusative, dative, genitive ("-": none), by gender; "p" is the plural.
ARTICLE = {"m": "der den dem des", "f": "die die der der", "n": "das das dem des", "p": "die die den der"}
RELATIVE = {"m": "der den dem dessen", "f": "die die der deren", "n": "das das dem dessen", "p": "die die denen deren"}
DETERMINER_ENDING = {
    "dies": {"m": "er en em es", "f": "e e er er", "n": "es es em es", "p": "e e en er"},
    "ein": {"m": "- en em es", "f": "e e er er", "n": "- - em es", "p": "e e en er"},
}
ADJECTIVE_ENDING = {
    "weak": {"m": "e en en en", "f": "e e en en", "n": "e e en en", "p": "en en en en"},
    "mixed": {"m": "er en en en", "f": "e e en en", "n": "es es en en", "p": "en en en en"},
    "strong": {"m": "er en em en", "f": "e e er er", "n": "es es em en", "p": "e e en er"},
}
DETERMINERS = {  # German stem, its endings, kind of the adjective after it
    "the": ("", "", "weak"),
    "": ("", "", "strong"),
    "this": ("dies", "dies", "weak"),
    "these": ("dies", "dies", "weak"),
    "every": ("jed", "dies", "weak"),
    "all": ("all", "dies", "weak"),
    "many": ("viel", "dies", "strong"),
    "some": ("einig", "dies", "strong"),
}
for english_word, stem in pairs("a=ein, no=kein, my=mein, his=sein, her=ihr, our=unser, their=ihr"):
    DETERMINERS[english_word] = (stem, "ein", "mixed")
DEFINITE = "the this these my his her our their".split()
SINGULAR = "the the the the a a a a this my his her our their every".split()
PLURAL = "the the the these my his her our their many some all # # - -".split()  # "#": a number
MASS = "the the the this my his her our - -".split()
CONTRACTED = {"in dem": "im", "an dem": "am", "von dem": "vom", "zu dem": "zum", "zu der": "zur", "in das": "ins"}


def cased(table, key, case):
    return table[key].split()["NADG".index(case)].replace("-", "")


def german_phrase(determiner, adjective, noun, plural, case, before=""):
    """before: an uninflected word in the place of the determiner (a number, Annas, dessen)."""
    key = "p" if plural else noun.gender
    stem, endings, kind = DETERMINERS[determiner]
    words = [before or (stem and stem + cased(DETERMINER_ENDING[endings], key, case))]
    if determiner == "the":
        words = [cased(ARTICLE, key, case)]
    if adjective:
        stem = adjective[3 if len(adjective) > 3 else 1]
        words.append(stem + cased(ADJECTIVE_ENDING[kind], key, case))
    return " ".join(words + [noun.form(plural, case)]).strip()


class Phrase:
    """A noun phrase: English as subject and as object, German by case."""

    def __init__(self, subject, other, german, noun=None, plural=False, person=3, definite=True):
        self.subject, self.object, self.german, self.noun = subject, other, german, noun
        self.plural, self.person, self.definite = plural, person, definite
        self.pronoun = self.relative = False

    def after(self, preposition, case):
        """in + dem Garten is im Garten, but: in dem Garten, den ich sehe."""
        words = (preposition + " " + self.german[case]).split(" ", 2)
        short = CONTRACTED.get(" ".join(words[:2])) if not self.relative else None
        return " ".join([short] + words[2:] if short else words)


class Speaker:
    """Draws sentences. All choices use random(), whose numbers are the same in every Python."""

    def __init__(self, random):
        self.random = random

    def chance(self, probability):
        return self.random() < probability

    def pick(self, items):
        return items[int(self.random() * len(items))]

    def common(self, noun, level, determiners=None, before=""):
        """A phrase with this noun: determiner, number or owner; adjective; relative clause."""
        plural = not noun.mass and self.chance(0.3)
        usual = MASS if noun.mass else PLURAL if plural else SINGULAR
        determiner = self.pick(determiners or usual)
        if plural:
            determiner = {"this": "these", "a": "-"}.get(determiner, determiner)
        adjective = self.pick(noun.adjectives) if noun.adjectives and self.chance(0.42) else None
        if adjective:
            self.pairs.add(("adjective", adjective[0], noun.en))
        first, owner = determiner.replace("-", ""), None
        determiner = first
        if determiner == "#":
            first, before = number(2 + int(self.random() ** 2 * 98))
            determiner = ""
        elif determiner == "the" and not determiners and noun.kind not in "lx" and self.chance(0.15):
            owner = self.owner()
            first = owner.subject
            if not owner.noun:  # the name comes first: Annas rotes Auto
                determiner, before = "", owner.german["G"]
        words = [first, adjective[0] if adjective else "", noun.en_plural if plural else noun.en]
        words = " ".join(" ".join(words).split())
        if first == "a" and words[2] in "aeiou":
            words = "an" + words[1:]
        german = {
            case: german_phrase(determiner, adjective, noun, plural, case, before)
            + (" " + owner.german["G"] if owner and owner.noun else "")
            for case in "NADG"
        }
        definite = bool(owner) or determiner in DEFINITE
        phrase = Phrase(words, words, german, noun, plural, 3, definite)
        if not owner and determiner and level < 3 and self.chance((0.13, 0.2, 0.25)[level]):
            self.add_relative(phrase, level + 1)
        return phrase

    def owner(self):
        """Somebody with 's: the old teacher 's, my brothers ', Anna 's."""
        if self.chance(0.3):
            name = self.pick([name for name in NAMES if name[-1] != "s"])
            return Phrase(name + " 's", name, {"G": name + "s"})
        owner = self.common(self.pick(NOUNS["p"]), 3, ["the", "the", "my", "her", "this"])
        owner.subject += " '" if owner.plural and owner.subject[-1] == "s" else " 's"
        return owner

    def phrase(self, classes, level, subject=None, determiners=None):
        """A phrase of one of the classes; subject: that of the clause, if this is an object."""
        kind = self.pick(classes)
        if kind == "p" and not determiners and self.chance(0.3):
            row = self.pick(PRONOUNS if not subject or subject.noun else PRONOUNS[1:3])
            if not (subject and subject.subject == row[0]):
                phrase = Phrase(row[0], row[1], dict(zip("NAD", row[2:5])), None, row[6], row[5])
                phrase.pronoun = True
                return phrase
        if kind == "p" and not determiners and self.chance(0.2):
            name = self.pick(NAMES)
            if not (subject and subject.subject == name):
                return Phrase(name, name, dict.fromkeys("NAD", name))
        return self.common(self.pick(NOUNS[kind]), level, determiners)

    def add_relative(self, phrase, level):
        """Put a relative clause after the noun of the phrase."""
        noun, key = phrase.noun, "p" if phrase.plural else phrase.noun.gender
        person, subject = noun.kind == "p", None
        role = self.pick("NAPDG" if person else "NAP")  # G: whose
        if role != "G" and not verbs_for(role, noun.kind):
            return
        word = "that" if not person else "who" if role == "N" else "whom"
        pronoun = cased(RELATIVE, key, role if role in "NAD" else "N")
        if role == "N":
            subject = Phrase("", "", {"N": ""}, noun, phrase.plural)
        elif role == "G":
            own = self.common(self.pick(NOUNS["p"]), 3, ["-"], cased(RELATIVE, key, "G"))
            word, pronoun = "whose " + own.subject, own.german["N"]
            subject = Phrase("", "", {"N": ""}, own.noun, own.plural)
        clause = self.clause(level, FOLLOWING[self.tense], role, phrase, subject)
        if role == "P":
            word = clause.verb.particle + (" whom" if person else " which")
            preposition, case = clause.verb.preposition
            pronoun = preposition + " " + cased(RELATIVE, key, case)
        words = " " + word + " " + clause.english()
        phrase.subject, phrase.object = phrase.subject + words, phrase.object + words
        words = " , " + pronoun + " " + clause.verb_last() + " ,"
        phrase.german = {case: german + words for case, german in phrase.german.items()}
        phrase.relative = True

    # ---- Clause --------------------------------------------------------------------------------
    def verb_group(self, verb, subject, tense, adverb):
        """English verbs with the adverb or "not"; German finite verb and end of the main clause."""
        who = 2 if subject.plural else int(subject.person == 3)  # I, he, we
        negative, base, end = adverb == "not", "", verb.prefix
        if tense == "modal":
            row = MODALS[0] if negative else self.pick(MODALS)
            first, finite, base, end = row[who], row[3 + who], verb.english[0], verb.infinitive
        elif verb.frame == "k":
            first = (("am", "is", "are") if tense == "present" else ("was", "was", "were"))[who]
            finite = (SEIN if tense == "present" else WAR)[who]
        elif tense == "present":
            first, finite = verb.english[who], verb.german[who]
        else:
            first, finite, end = verb.past, verb.auxiliary[who], verb.de_participle
        if tense == "perfect":
            first, base = ("have", "has", "have")[who], verb.participle
        elif negative and not base and verb.frame != "k":
            first = "did" if tense == "past" else ("do", "does", "do")[who]
            base = verb.english[0]
        before = not base and verb.frame != "k" or first.startswith("want")
        words = " ".join([adverb, first, base] if before else [first, adverb, base])
        return words.replace("can not", "cannot"), finite, end

    def clause(self, level, tenses, role=None, head=None, subject=None, plain=False):
        """One clause. In a relative clause head plays the role in it and is left out.

        plain: without often, never, not, which would change what als and bevor mean.
        """
        self.deepest = max(self.deepest, level)
        verbs = verbs_for(role, head.noun.kind) if role and role != "G" else verbs_for("N", "p")
        outer, tense = self.tense, self.pick(tenses)
        verbs = [verb for verb in verbs if verb.frame != "c" or level < 3]
        if not any(tense in verb.tenses for verb in verbs):
            tense = "past"  # a place can only "be", which has no perfect
        verb = self.pick([verb for verb in verbs if tense in verb.tenses])
        self.tense, frame = tense, verb.frame
        subject = subject or self.phrase(("pp" if frame != "k" else "") + verb.subjects, level)
        en, pronouns, definite, company, indefinite, last = [], [], [], [], [], []
        extra, no = ("", ""), None
        vague = subject.subject.startswith(("every ", "all "))  # vague: no nicht
        roles = {"d": "D", "a": "A", "da": "DA", "p": "P"}.get(frame, "")
        for place in roles:
            # Not after a modal verb: "muss kein Buch lesen" would be "need not read a book".
            no = ["no"] if roles == "A" and tense != "modal" and self.chance(0.06) else None
            thing = head if place == role else self.phrase("p" if place == "D" else verb.objects, level, subject, no)
            if thing.noun:
                self.pairs.add(("verb", verb.en, thing.noun.en))
            if place == role:
                continue
            en.append(thing.object)
            vague = vague or bool(no) or not thing.definite
            if place == "P":
                last.append(thing.after(*verb.preposition))
            else:
                (pronouns if thing.pronoun else definite if thing.definite else indefinite).append(thing.german[place])
        if frame == "k":
            adjective = self.pick(subject.noun.adjectives if subject.noun else PERSONAL)
            if subject.noun:
                self.pairs.add(("adjective", adjective[0], subject.noun.en))
            very = ("very ", "sehr ") if self.chance(0.3) else ("", "")
            en, last = [very[0] + adjective[0]], [very[1] + adjective[1]]
        elif frame == "c":
            word = self.pick(verb.objects.split())  # dass or ob
            inner = self.clause(level + 1, FOLLOWING[tense])
            that = "that" if word == "dass" else self.pick(["whether", "whether", "if"])
            extra = that + " " + inner.english(), ", " + word + " " + inner.verb_last() + " ,"
        elif frame == "m":
            way = self.direction(level, verb)
            en, last = [way[0]], [way[1]]
        # After a relative clause "with Paul" or "on Monday" could belong to either clause, so:
        heavy = any("," in words for words in definite + indefinite + last)
        if frame in "im" and not heavy and self.chance(0.2):
            friend = self.phrase("p", level, subject)
            word, preposition, case = self.pick([("with", "mit", "D"), ("without", "ohne", "A")])
            en.append(word + " " + friend.object)
            company.append(friend.after(preposition, case))
            heavy = friend.relative
        time = place = adverb = ("", "")
        if frame not in "kc" and "s" not in verb.marks and not heavy:
            if frame != "m" and "l" not in verb.marks and self.chance(0.12 if level else 0.37):
                place = self.place(level)
            if "," not in place[1] and self.chance(0.15 if level else 0.48):
                time = self.time(tense)
        if not plain and not time[0] and not no and self.chance(0.16):
            adverb = self.pick(OFTEN[:3] if tense == "modal" else OFTEN)
        elif not plain and not vague and self.chance(0.15):
            adverb = ("not", "nicht")
        self.tense = outer
        verbs, finite, end = self.verb_group(verb, subject, tense, adverb[0])
        en = [subject.subject, verbs, verb.particle if role != "P" else ""] + en
        middle = [pronouns, [time[1]], definite, [adverb[1]], company, [place[1]], indefinite, last]
        return Clause(verb, en, place, time, subject.german["N"], middle, (finite, end), extra)

    def time(self, tense):
        kind = self.pick(
            {
                "present": "word day clock",
                "past": "word day clock date ago year event",
                "modal": "word day clock event",
                "perfect": "word",
            }[tense].split()
        )
        if kind == "word":
            return self.pick(TIMES[tense])
        if kind == "day":
            day, tag = self.pick(DAYS)
            if tense == "present":
                return "on " + day + "s", tag.lower() + "s"
            return "on " + day, "am " + tag
        if kind == "clock":
            part = self.pick(["", "half past", "quarter past", "quarter to"])
            return clock(1 + int(self.random() * 12), part)
        if kind == "ago":
            en, de = number(2 + int(self.random() ** 2 * 30))
            unit = self.pick(pairs("years=Jahren, days=Tagen, weeks=Wochen, months=Monaten"))
            return en + " " + unit[0] + " ago", "vor " + de + " " + unit[1]
        year = 1920 + int(self.random() * 100)
        if kind == "year":
            return "in %d" % year, "im Jahr %d" % year
        if kind == "date":
            day, (en, de) = 1 + int(self.random() * 28), self.pick(MONTHS)
            return "on %d %s %d" % (day, en, year), "am %d. %s %d" % (day, de, year)
        en, de, case, names = self.pick(EVENT_PREPOSITIONS)
        event = self.common(NOUN[self.pick(names.split())], 3, ["the", "the", "this"])
        return en + " " + event.object, event.after(de, case)

    def place(self, level):
        if self.chance(0.25):
            town = self.pick(TOWNS)
            return "in " + town[0], "in " + town[1]
        noun = self.pick(NOUNS["l"])
        en, de = PLACE_PREPOSITION.get(noun.en, ("in", "in"))
        if self.chance(0.25):
            en, de = self.pick(pairs("behind=hinter, in front of=vor, next to=neben"))
            noun = NOUN[self.pick("house school church museum station".split())]
        phrase = self.common(noun, level, "the the the the a this our their".split())
        return en + " " + phrase.object, phrase.after(de, "D")

    def direction(self, level, verb):
        town, kind = self.pick(TOWNS), self.pick(["town", "person", "into", "through"])
        if verb.en == "come":
            return "from " + town[0], "aus " + town[1]
        if kind == "town":
            return "to " + town[0], "nach " + town[1]
        if kind == "person":
            phrase = self.common(self.pick(NOUNS["p"]), level)
            return "to " + phrase.object, phrase.after("zu", "D")
        names = "park forest village city garden museum house church kitchen".split()
        noun = NOUN[self.pick(names if kind == "into" else names[:6])]
        phrase = self.common(noun, level, "the the a this our their".split())
        return kind + " " + phrase.object, phrase.after("in" if kind == "into" else "durch", "A")

    # ---- Sentence ------------------------------------------------------------------------------
    def main(self, *tenses):
        clause, front = self.clause(0, tenses), self.pick(["", "time", "place"])
        return clause.english(front), clause.verb_second(front)

    def sentence(self):
        """(English, German); pairs then holds its word pairs, deepest how deep clauses nest."""
        self.pairs, self.deepest, self.tense, kind = set(), 0, "present", self.random()
        usual = ("present", "past", "past", "perfect", "modal")
        if kind < 0.62:
            en, de = self.main(*usual)
        elif kind < 0.72:
            (en, de), word, (en2, de2) = (
                self.main(*usual),
                self.pick([("and", "und"), ("but", ", aber")]),
                self.main(*usual),
            )
            en, de = " ".join([en, word[0], en2]), " ".join([de, word[1], de2])
        else:
            tense = self.pick(["present", "past"])
            word = self.pick(CONJUNCTIONS[tense])
            inner = self.clause(1, [tense], plain=word[1] in ("als", "bevor"))
            en, de = word[0] + " " + inner.english(), word[1] + " " + inner.verb_last()
            if self.chance(0.4):  # the subordinate clause is in first place, so the verb follows it
                outer = self.clause(0, [tense])
                en, de = en + " , " + outer.english(), de + " , " + outer.verb_second("clause")
            else:
                outer = self.main(tense)
                en, de = outer[0] + " " + en, outer[1] + " , " + de
        return tidy(en), tidy(de)


class Clause:
    """The parts of a clause, to be put in the order of a main or of a subordinate clause."""

    def __init__(self, verb, en, place, time, subject, middle, ends, extra):
        self.verb, self.en, self.adverbials = verb, en, {"place": place, "time": time}
        self.subject, (self.finite, self.end), self.extra = subject, ends, extra
        # The order between the verbs; what is new (a dog, many dogs) comes after the place.
        self.middle = [word for part in middle for word in part]

    def english(self, front=""):
        first = self.adverbials.get(front, ("", ""))[0]
        rest = [words[0] for name, words in self.adverbials.items() if name != front]
        return " ".join([first] + self.en + rest + [self.extra[0]])

    def verb_second(self, front=""):
        """front: what comes first instead of the subject, "clause" if that is there already."""
        first = self.adverbials.get(front, ("", ""))[1]
        words = [first, self.finite, self.subject] if first or front == "clause" else [self.subject, self.finite]
        rest = [word for word in self.middle if not first or word != first]
        return " ".join(words + rest + [self.end, self.extra[1]])

    def verb_last(self):
        # A separable prefix is the last word of a main clause, but here the verb joins it.
        last = [self.end + self.finite] if self.end == self.verb.prefix else [self.end, self.finite]
        return " ".join([self.subject] + self.middle + last + [self.extra[1]])


def clock(hour, part):
    (en, de), following = number(hour), number(hour % 12 + 1)[1]
    if not part:
        return "at %s o'clock" % en, "um %s Uhr" % ("ein" if hour == 1 else de)
    if part == "half past":
        return "at half past " + en, "um halb " + following
    return "at a %s %s" % (part, en), "um Viertel %s %s" % ("nach" if "past" in part else "vor", de)


def tidy(text):
    """No comma doubled or before the full stop, a capital letter first."""
    words = []
    for word in text.split():
        if word != "," or words[-1] != ",":
            words.append(word)
    words = words[:-1] if words[-1] == "," else words
    words[0] = words[0][0].upper() + words[0][1:]
    return " ".join(words + ["."])
