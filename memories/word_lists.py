"""Words that say the same, or nothing: what may differ between two texts that mean one thing.

Only what is listed here counts as the same; any other word that differs is taken for another meaning. So a word is
added only where exchanging it never changes what a memory says. Opposites need no list.
"""

from collections.abc import Iterable

# Each line is one meaning. Words are compared after these replacements and by their stems, so "runs" needs no entry.
_SAME = """
use utilize utilise employ
run execute
delete remove erase
fix resolve repair solve
fail crash
ask contact consult
store save persist keep
start launch begin
show display
change modify alter
choose select pick
need require necessary
prefer like favor favour
want wish
write author
big large
fast quick rapid
every all each
entire whole
approve sign-off
only solely exclusively
often frequently
move relocate
verify check
permit allow
forbid prohibit
stop halt
fetch retrieve
transmit send
purchase buy
buggy broken
defect bug
error failure
live reside lie locate located
manage administer
answer reply respond
assemble build compile
also additionally
usually normally generally typically
occasionally sometimes
therefore hence thus
folder directory dir
repository repo
configuration config cfg konfiguration
database db datenbank
production prod
development dev
environment env
variable var
documentation docs doc
kubernetes k8s
postgresql postgres pg
javascript js
typescript ts
authentication auth authentification
authorization authorisation authz
application app
maximum max
minimum min
message msg
package pkg
dependency dep deps
performance perf
infrastructure infra
administrator admin
information info
specification spec
parameter param
argument arg
function func fn
library lib
password pw passwd
temporary temp tmp
previous prior
email e-mail mail
lowercase lower-case
uppercase upper-case
backend back-end
frontend front-end
website web-site
color colour
behavior behaviour
center centre
license licence
canceled cancelled
canceling cancelling
labeled labelled
modeled modelled
gray grey
catalog catalogue
dialog dialogue
artifact artefact
program programme
fulfill fulfil
judgment judgement
defense defence
analyze analyse
optimize optimise
organize organise
normalize normalise
serialize serialise
deserialize deserialise
initialize initialise
synchronize synchronise sync
customize customise
authorize authorise
recognize recognise
summarize summarise
prioritize prioritise
minimize minimise
maximize maximise
monday mon mondays
tuesday tue tuesdays
wednesday wed wednesdays
thursday thu thursdays
friday fri fridays
saturday sat saturdays
sunday sun sundays
january jan
february feb
april apr
august aug
september sep sept
october oct
november nov
december dec
benutzen verwenden nutzen benutzt verwendet nutzt einsetzen setzen
laufen ausführen ausgeführt
löschen entfernen gelöscht entfernt
speichern ablegen gespeichert abgelegt
starten beginnen gestartet
brauchen benötigen braucht benötigt
schreiben geschrieben schreibt
melden gemeldet meldet
kopieren kopiert
vergeben vergibt
liegen liegt stehen steht
bevorzugen bevorzugt mag mögen
prüfen überprüfen geprüft prüft
ändern geändert ändert
ungefähr etwa circa zirka rund
alle jeder jede jedes jeden
ordner verzeichnis
user nutzer benutzer anwender
nachricht meldung
запускать запустить запускаем запускается выполнять выполнить выполняется
использовать используем используется применять
удалять удалить удаляем
хранить храним хранится хранятся лежит лежат находится находятся
около примерно приблизительно
предпочитает любит
все каждый
конфигурация конфиг
репозиторий репо
"""

# Of irregular verbs, whose stems differ: the base, then its other forms. "left", "found" and the like are left out
# where they are words of their own.
_IRREGULAR = """
build built
keep kept
write wrote written
send sent
hold held
run ran
make made
find found
lose lost
choose chose chosen
take took taken
give gave given
drive drove driven
break broke broken
know knew known
show shown
see seen
throw threw thrown
bring brought
buy bought
catch caught
begin began begun
hide hid hidden
freeze froze frozen
grow grew grown
draw drew drawn
fall fell fallen
pay paid
sell sold
lead led
feed fed
spend spent
bind bound
win won
deal dealt
mean meant
sweep swept
go went gone
speak spoke spoken
tell told
teach taught
steal stole stolen
override overrode overridden
overwrite overwrote overwritten
rewrite rewrote rewritten
rebuild rebuilt
"""

# Words that can go without any loss. Stop words of `memories.lexical` go anyway.
_EMPTY = """
please note remember fyi btw actually basically really currently presently nowadays now already indeed simply merely
here there reference gets get got getting happen happens happened called named known approx approximately around roughly
circa ca per using via through own upon within must should shall ought let us okay ok hey hint reminder memo well
does each-time order ensure sure
bitte merken notiz hinweis eigentlich derzeit momentan aktuell gerade schon bereits wird werden wurde wurden worden ist
sind war waren hat haben der die das den dem des ein eine einen einem einer eines und oder im in am an zum zur zu von
vom mit per auf für bei es wir ich du man sich dass daß soll sollen sollte muss müssen müssten hier da nach als auch
и а в во на с со к ко о об от по у за из для что это этот эта мы я он она они его её их наш наша быть был была было
были есть надо нужно следует должен должна должны пожалуйста заметка помни запомни сейчас уже
"""

# Whole phrases that only introduce what is said. Tried in this order, on the folded text.
_INTRODUCTIONS = (
    r"(?:for (?:your )?(?:reference|the record|information)|as (?:discussed|agreed|mentioned|noted|decided)|"
    r"just so (?:you|we) know|it turns out(?: that)?|it turned out(?: that)?|keep in mind(?: that)?|"
    r"(?:we|they|the team)(?: have|'ve)? (?:decided|agreed) (?:to|that)|decision(?= ?:)|"
    r"(?:the )?user (?:said|says|mentioned|mentions|stated|states|noted|told (?:me|us))(?: that)?|"
    r"make sure (?:to|that)|you (?:can|should|must|need to|have to)|(?:do not|don't) forget (?:to|that))"
)
_REWORDED = (
    (
        r"\b(?:the )?user (?:said|says|mentioned|mentions|stated|states|noted|told (?:me|us))(?: that)?"
        r" (?:they|he|she)\b",
        "user",
    ),
    (r"\bprior to\b", "before"),
    (r"\bin order to\b", "to"),
    (r"\bdue to the fact that\b", "because"),
    (r"\b(?:would|'d) like(?: to(?: have)?)?\b", "want"),
    (r"\b(?:has|have|had|needs?) to\b", "must"),
    (r"\bpull[- ]requests?\b", "pr"),
    (r"\bprs\b", "pr"),
    (r"\bmerge[- ]requests?\b", "mr"),
    (r"\benvironment variables?\b|\benv vars?\b", "envvar"),
    (r"\be-mails?\b", "email"),
    (r"\blower[- ]case\b", "lowercase"),
    (r"\bupper[- ]case\b", "uppercase"),
    (r"\broot cause\b", "cause"),
    (r"\bis able to\b|\bare able to\b", "can"),
    (r"\bone-time\b", "once"),
    (r"\btakes? place\b|\btook place\b", "happens"),
    (r"\bfar too\b|\bway too\b", "too"),
    (r"\bby hand\b", "manually"),
    (r"之前", "前"),
    (r"之后|以后", "后"),
    (r"执行", "运行"),
    (r"偏好|更喜欢|喜爱", "喜欢"),
    (r"请?记住|请?注意|备注|必须|需要注意|目前|现在|应该|应当", ""),
    (r"所有的|全部", "所有"),
    (r"删掉|移除", "删除"),
    (r"存放|储存|存储", "保存"),
    (r"メモ|注意|現在|必ず|常に", ""),
    (r"実行", "走"),
    (r"使用|利用", "使"),
    (r"削除", "消"),
    (r"データベース", "db"),
    (r"数据库", "db"),
    (r"вместо того,? чтобы", "вместо"),
    (r"\bz\. ?b\.", "beispiel"),
)

_UNITS = """
ms millisecond milliseconds msec millis millisekunde millisekunden мс
s sec secs second seconds sekunde sekunden сек секунда секунды секунд 秒 秒钟
min mins minute minutes minuten мин минута минуты минут 分 分钟 分間
h hr hrs hour hours stunde stunden ч час часа часов 时 小时 時間
d day days tag tage tagen день дня дней 天 日 日間
week weeks woche wochen неделя недели недель 周 週間
month months monat monate monaten месяц месяца месяцев 月 か月 ヶ月
year years yr yrs jahr jahre jahren год года лет 年
b byte bytes
kb kilobyte kilobytes
mb megabyte megabytes
gb gigabyte gigabytes
tb terabyte terabytes
percent % pct prozent процент процентов процента
"""

_NUMBERS = """
zero one two three four five six seven eight nine ten eleven twelve
. . zwei drei vier fünf sechs sieben acht neun zehn elf zwölf
ноль один два три четыре пять шесть семь восемь девять десять одиннадцать двенадцать
"""
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"

_NEGATIONS = """
not no never none nobody nothing neither nor nowhere without cannot
nicht kein keine keinen keinem keiner keines nie niemals niemand nichts ohne weder
не нет ни без никогда никто ничего нельзя
"""


def _lines(table: str) -> Iterable[list[str]]:
    return (line.split() for line in table.strip().splitlines())


def _first_of(table: str) -> dict[str, str]:
    return {word: words[0] for words in _lines(table) for word in words}


INTRODUCTIONS = _INTRODUCTIONS
REWORDED = _REWORDED
SAME = _first_of(_SAME)
IRREGULAR = _first_of(_IRREGULAR)
EMPTY = frozenset(_EMPTY.split())
UNITS = _first_of(_UNITS)
NEGATIONS = frozenset(_NEGATIONS.split())
NUMBERS = {word: str(number) for words in _lines(_NUMBERS) for number, word in enumerate(words) if word != "."} | {
    word: str(20 + 10 * place) for place, word in enumerate(_TENS.split())
}
