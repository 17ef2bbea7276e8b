"""The words of the grammar: tables, and the forms that follow from them."""

# Nouns by class: English[/plural] German gender plural [genitive]. Plural "-": there is none. A
# genitive that is not given ends in -s (feminine: no ending). No noun follows the n-declension.
NOUN_TABLE = {
    "p": """man/men Mann m Männer Mannes, woman/women Frau f Frauen, child/children Kind n Kinder
        Kindes, girl Mädchen n Mädchen, teacher Lehrer m Lehrer, doctor Arzt m Ärzte Arztes,
        waitress Kellnerin f Kellnerinnen, friend Freund m Freunde Freundes, brother Bruder m
        Brüder, sister Schwester f Schwestern, mother Mutter f Mütter, father Vater m Väter,
        daughter Tochter f Töchter, son Sohn m Söhne Sohnes, cook Koch m Köche, singer Sänger m
        Sänger, nurse Krankenschwester f Krankenschwestern, thief/thieves Dieb m Diebe Diebes""",
    "a": """dog Hund m Hunde Hundes, cat Katze f Katzen, horse Pferd n Pferde Pferdes, bird Vogel
        m Vögel, mouse/mice Maus f Mäuse, rabbit Kaninchen n Kaninchen, wolf/wolves Wolf m Wölfe
        Wolfes""",
    "f": """apple Apfel m Äpfel, cake Kuchen m Kuchen, egg Ei n Eier Eies, potato/potatoes
        Kartoffel f Kartoffeln, bread Brot n - Brotes, cheese Käse m -, meat Fleisch n -
        Fleisches""",
    "d": "milk Milch f -, water Wasser n -, tea Tee m -, beer Bier n -",
    "r": """book Buch n Bücher Buches, letter Brief m Briefe Briefes, newspaper Zeitung f
        Zeitungen, story Geschichte f Geschichten""",
    "t": """key Schlüssel m Schlüssel, table Tisch m Tische Tisches, lamp Lampe f Lampen, picture
        Bild n Bilder Bildes, clock Uhr f Uhren, flower Blume f Blumen, cup Tasse f Tassen,
        knife/knives Messer n Messer""",
    "c": """hat Hut m Hüte Hutes, shirt Hemd n Hemden Hemdes, dress Kleid n Kleider Kleides""",
    "v": """car Auto n Autos, train Zug m Züge Zuges, bicycle Fahrrad n Fahrräder, bus/buses Bus m
        Busse Busses""",
    "o": """door Tür f Türen, window Fenster n Fenster, suitcase Koffer m Koffer""",
    "l": """garden Garten m Gärten, house Haus n Häuser Hauses, school Schule f Schulen, church
        Kirche f Kirchen, kitchen Küche f Küchen, park Park m Parks, forest Wald m Wälder Waldes,
        village Dorf n Dörfer Dorfes, city Stadt f Städte, museum Museum n Museen, station Bahnhof
        m Bahnhöfe, river Fluss m Flüsse Flusses, bridge Brücke f Brücken, mountain Berg m Berge
        Berges""",
    "x": """storm Sturm m Stürme, concert Konzert n Konzerte, exam Prüfung f Prüfungen, journey
        Reise f Reisen, game Spiel n Spiele, war Krieg m Kriege Krieges, rain Regen m -, noise
        Lärm m -""",
}
PLACE_PREPOSITION = {  # of a place, English and German, where it is not in, in
    "station": ("at", "an"),
    "river": ("at", "an"),
    "bridge": ("on", "auf"),
    "mountain": ("on", "auf"),
}
# Adjectives: English German classes of the nouns they go with [stem before an ending].
ADJECTIVE_TABLE = """old alt parctvol, young jung pa, small klein pactvol, big groß actvol, tall
    groß p, friendly freundlich p, tired müde pa müd, rich reich p, famous berühmt prl, hungry
    hungrig pa, beautiful schön arctvl, expensive teuer rctvd teur, cheap billig rctvd, new neu
    rctvol, red rot ctvo, green grün ctvo, blue blau ctvo, black schwarz acto, heavy schwer to,
    long lang rx, short kurz rx, boring langweilig prx, interesting interessant prlx, fresh frisch
    f, good gut fdrpx, cold kalt df, hot heiß d, dark dunkel l dunkl, empty leer o, clean sauber
    tcvol, dirty schmutzig actvol, loud laut p, clever klug pa, lazy faul pa, sad traurig pr,
    happy glücklich p, strong stark pa, terrible schrecklich rx, important wichtig prx"""
# Verbs: English base[+particle] [past participle]/German infinitive (prefix+ if separable) [third
# person, participle]/frame/classes of subjects/classes of objects/marks. Missing forms are regular.
# Frames: i none, a accusative, d dative, da both, m direction, c clause, k adjective, or
# p:PREPOSITION:CASE. Marks: S perfect with sein, s state (no time or place), n only in the present,
# l no place.
VERB_TABLE = """be was been/sein ist gewesen/k/pppppactvlor//, see saw seen/sehen sieht
    gesehen/a/pa/parctvl/, buy bought bought/kaufen/a/p/frctv/, read read read/lesen liest
    gelesen/a/p/r/, write wrote written/schreiben schreibt geschrieben/a/p/r/, eat ate eaten/essen
    isst gegessen/a/pa/f/, drink drank drunk/trinken trinkt getrunken/a/pa/d/,
    open/auf+machen/a/p/o/, close/zu+machen/a/p/o/, find found found/finden findet
    gefunden/a/pa/pafrct/, look+for/suchen/a/p/parct/, love/lieben/a/p/pafdrl/s, know knew
    known/kennen kennt gekannt/a/p/prl/sn, visit/besuchen/a/p/pl/l, repair/reparieren/a/p/tvo/,
    forget forgot forgotten/vergessen vergisst vergessen/a/p/prct/l, hear heard
    heard/hören/a/pa/pa/, invite/ein+laden lädt eingeladen/a/p/p/l, call/an+rufen ruft
    angerufen/a/p/p/, wake woke woken/auf+wecken/a/p/pa/l, throw+away threw thrown/weg+werfen
    wirft weggeworfen/a/p/frct/l, try+on/an+probieren probiert anprobiert/a/p/c/,
    watch/beobachten/a/pa/pa/, meet met met/treffen trifft getroffen/a/p/p/, feed fed
    fed/füttern/a/p/a/, cook/kochen/a/p/F/, help/helfen hilft geholfen/d/p/p/,
    thank/danken/d/p/p/l, follow/folgen/d/pa/pa/Sl, trust/vertrauen/d/p/p/s,
    listen+to/zu+hören/d/p/p/, give gave given/geben gibt gegeben/da/p/frct/, show showed
    shown/zeigen/da/p/arctvl/, bring brought brought/bringen bringt gebracht/da/p/fdrct/, send
    sent sent/schicken/da/p/rt/l, lend lent lent/leihen leiht geliehen/da/p/rctv/l,
    wait+for/warten/p:auf:A/pa/pv/, think+of thought thought/denken denkt gedacht/p:an:A/p/plx/l,
    talk+to/sprechen spricht gesprochen/p:mit:D/p/p/, play+with/spielen/p:mit:D/pa/pa/,
    work+for/arbeiten/p:für:A/p/p/, ask+about/fragen/p:nach:D/p/prtl/l, sleep slept slept/schlafen
    schläft geschlafen/i/pa//, work/arbeiten/i/p//, laugh/lachen/i/p//, dance/tanzen/i/p//,
    play/spielen/i/pa//, get+up got got/auf+stehen steht aufgestanden/i/p//Sl, arrive/an+kommen
    kommt angekommen/i/pv//S, fall+asleep fell fallen/ein+schlafen schläft eingeschlafen/i/pa//S,
    wake+up woke woken/auf+wachen/i/pa//S, come came come/kommen kommt gekommen/m/p//S, go went
    gone/gehen geht gegangen/m/p//S, travel travelled travelled/reisen/m/p//S, drive drove
    driven/fahren fährt gefahren/m/p//S, return/zurück+kehren/m/p//S, know knew known/wissen weiß
    gewusst/c/p/dass ob/sn, say said said/sagen/c/p/dass/l, think thought thought/denken denkt
    gedacht/c/p/dass/sl, believe/glauben/c/p/dass/sl, ask/fragen/c/p/ob/l"""
# The forms for I, he, we: a modal verb or will in English, then in German.
MODALS = [
    ("can", "can", "can", "kann", "kann", "können"),
    ("must", "must", "must", "muss", "muss", "müssen"),
    ("want to", "wants to", "want to", "will", "will", "wollen"),
    ("may", "may", "may", "darf", "darf", "dürfen"),
    ("should", "should", "should", "sollte", "sollte", "sollten"),
    ("will", "will", "will", "werde", "wird", "werden"),
]
HABEN, SEIN, WAR = ("habe", "hat", "haben"), ("bin", "ist", "sind"), ("war", "war", "waren")
PRONOUNS = [  # English subject, object; German nominative, accusative, dative; person, plural
    ("I", "me", "ich", "mich", "mir", 1, False),
    ("he", "him", "er", "ihn", "ihm", 3, False),
    ("she", "her", "sie", "sie", "ihr", 3, False),
    ("we", "us", "wir", "uns", "uns", 1, True),
    ("they", "them", "sie", "sie", "ihnen", 3, True),
]


def pairs(text):
    """ "today=heute, now=jetzt" as a list of pairs."""
    return [tuple(entry.strip().split("=")) for entry in text.split(",")]


NAMES = "Anna Maria Peter Paul Julia Martin Laura Thomas Sophie Daniel Emma David Clara".split()
TOWNS = pairs("""Munich=München, Cologne=Köln, Vienna=Wien, Berlin=Berlin, Hamburg=Hamburg,
    Rome=Rom, Zurich=Zürich, Nuremberg=Nürnberg, Prague=Prag, Dresden=Dresden, Milan=Mailand""")
DAYS = pairs("""Monday=Montag, Tuesday=Dienstag, Wednesday=Mittwoch, Thursday=Donnerstag,
    Friday=Freitag, Saturday=Samstag, Sunday=Sonntag""")
MONTHS = pairs("""January=Januar, February=Februar, March=März, April=April, May=Mai, June=Juni,
    July=Juli, August=August, September=September, October=Oktober, November=November,
    December=Dezember""")
TIMES = {
    "present": pairs("""today=heute, every day=jeden Tag, every week=jede Woche, now=jetzt,
        every year=jedes Jahr, in the evening=am Abend, in summer=im Sommer"""),
    "past": pairs("""yesterday=gestern, last week=letzte Woche, last year=letztes Jahr,
        last month=letzten Monat, yesterday evening=gestern Abend"""),
    "modal": pairs("tomorrow=morgen, next week=nächste Woche, next year=nächstes Jahr"),
    "perfect": pairs("today=heute, this week=diese Woche"),
}
OFTEN = pairs("often=oft, always=immer, sometimes=manchmal, rarely=selten, never=nie")
EVENT_PREPOSITIONS = [  # English, German, case, the events
    ("because of", "wegen", "G", "storm rain noise war exam"),
    ("despite", "trotz", "G", "storm rain noise war"),
    ("during", "während", "G", "concert exam journey game war storm"),
    ("after", "nach", "D", "concert exam journey game war storm"),
    ("before", "vor", "D", "concert exam journey game war storm"),
]
CONJUNCTIONS = {  # "when" depends on the tense; "if" is wenn here, but ob after know and ask
    "present": pairs("because=weil, although=obwohl, when=wenn, if=wenn, before=bevor, while=während"),
    "past": pairs("because=weil, although=obwohl, when=als, before=bevor, while=während"),
}
FOLLOWING = {  # the tenses that a clause may have inside a clause of this tense
    "present": ("present", "present", "past", "modal"),
    "past": ("past",),
    "perfect": ("past", "perfect"),
    "modal": ("present", "modal"),
}
ONES = pairs("""zero=null, one=eins, two=zwei, three=drei, four=vier, five=fünf, six=sechs,
    seven=sieben, eight=acht, nine=neun, ten=zehn, eleven=elf, twelve=zwölf, thirteen=dreizehn,
    fourteen=vierzehn, fifteen=fünfzehn, sixteen=sechzehn, seventeen=siebzehn, eighteen=achtzehn,
    nineteen=neunzehn""")
TENS = pairs("""twenty=zwanzig, thirty=dreißig, forty=vierzig, fifty=fünfzig, sixty=sechzig,
    seventy=siebzig, eighty=achtzig, ninety=neunzig""")


def number(n):
    """A number below 100 in words: 21 is twenty-one, einundzwanzig."""
    if n < 20:
        return ONES[n]
    tens, (one, eins) = TENS[n // 10 - 2], ONES[n % 10]
    if n % 10 == 0:
        return tens
    return tens[0] + "-" + one, ("ein" if n % 10 == 1 else eins) + "und" + tens[1]


def inflected(word, ending):
    """An English word with -s or -ed: city, cities; box, boxes; close, closed; play, played."""
    if word[-1] == "y" and word[-2] not in "aeo":
        return word[:-1] + ("ies" if ending == "s" else "ied")
    extra = "e" if ending == "s" and word.endswith(("s", "x", "ch", "sh", "go")) else ""
    return word + (ending[1:] if ending == "ed" and word[-1] == "e" else extra + ending)


class Noun:
    def __init__(self, row, kind):
        names, self.de, self.gender, self.de_plural, *genitive = row.split()
        self.en, _, plural = names.partition("/")
        self.en_plural = plural or inflected(self.en, "s")
        self.genitive = (genitive + [self.de + ("" if self.gender == "f" else "s")])[0]
        self.mass, self.kind = self.de_plural == "-", kind
        self.adjectives = [entry for entry in ADJECTIVES if kind in entry[2]]

    def form(self, plural, case):
        if not plural:
            return self.genitive if case == "G" else self.de
        # The dative plural adds -n, except after -n and after the plural -s.
        return self.de_plural + ("n" if case == "D" and self.de_plural[-1] not in "ns" else "")


class Verb:
    def __init__(self, row):
        english, german, frame, self.subjects, self.objects, self.marks = row.split("/")
        name, *forms = english.split()
        base, _, self.particle = name.partition("+")
        self.en = name.replace("+", " ")
        self.past, self.participle = forms or [inflected(base, "ed")] * 2
        self.english = (base, inflected(base, "s"), base)  # I, he, we
        infinitive, *forms = german.split()
        self.prefix, _, plural = infinitive.rpartition("+")
        self.infinitive = self.prefix + plural
        stem = plural[:-2] if plural.endswith("en") else plural[:-1]
        weak = stem + ("et" if stem[-1] in "td" else "t")
        no_ge = plural.startswith(("be", "ver")) or plural.endswith("ieren")
        er, self.de_participle = forms or (weak, self.prefix + ("" if no_ge else "ge") + weak)
        self.german = (er if plural == "wissen" else stem + "e", er, plural)  # ich, er, wir
        self.auxiliary = SEIN if "S" in self.marks else HABEN
        self.frame, *self.preposition = frame.split(":")
        # "They read" could be past or present, so read has no past here; be has no perfect.
        self.tenses = (
            "present"
            if "n" in self.marks
            else "present past modal"
            if frame == "k"
            else "present perfect modal"
            if base == "read"
            else "present past perfect modal"
        )


ADJECTIVES = [tuple(row.split()) for row in ADJECTIVE_TABLE.split(",")]
PERSONAL = [entry for entry in ADJECTIVES if "p" in entry[2]]
NOUNS = {kind: [Noun(row, kind) for row in rows.split(",")] for kind, rows in NOUN_TABLE.items()}
NOUN = {noun.en: noun for kind in NOUNS for noun in NOUNS[kind]}
NOUNS["F"] = [NOUN[name] for name in "potato egg meat".split()]  # to cook
VERBS = [Verb(row) for row in VERB_TABLE.split(",")]


def verbs_for(role, kind):
    """The verbs with this role (N, A, D; P: after a preposition) for nouns of this class."""
    frames = {"A": ("a", "da"), "D": ("d", "da"), "P": ("p",)}
    if role == "N":
        found = [verb for verb in VERBS if kind in verb.subjects]
        return found + [VERBS[0]] * 5  # "be" more often
    return [verb for verb in VERBS if verb.frame in frames[role] and kind in ("p" if role == "D" else verb.objects)]
