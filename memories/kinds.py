"""What kind of memory a text is, where nobody says: by rules, without a model, in 0.2 ms.

The first rule that fits decides, the surest first: how something is done, what went wrong, what somebody likes, what
was decided, whom or where to ask; a fact is what is left. A wrong kind costs little (importance, and a place in a
digest), so the rules stay few. How often they are right is in docs/memories.md.
"""

import re

from memories.models import Kind

# Longer texts say what they are in their first lines; more would only find words of other kinds.
_READ = 400


def kind_of(text: str) -> str:
    """The kind of a text that somebody wants remembered; never `message`, which is a matter of its source."""
    head = text.strip()[:_READ]
    for kind, rules in _RULES:
        # All of the patterns of a rule, any of the rules.
        if any(all(pattern.search(head) for pattern in rule) for rule in rules):
            return kind
    return Kind.FACT


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


def _words(*words: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(words)})\b", re.IGNORECASE)


# How something is done -----------------------------------------------------------------------------------------------

# A command between backquotes: a program of which one is known by name alone, or anything with arguments.
_PROGRAM = (
    r"(?:(?:ansible|cargo|cd|curl|dbt|docker|export|git|go|helm|just|kubectl|make|mvn|node|npm|npx|pip|pnpm"
    r"|poetry|psql"
    r"|pytest|python3?|ssh|task|terraform|tox|uv|yarn)(?=[ `])|(?:\./|[a-z])[\w./+-]* (?![=:(|])[^`]*)"
)
_SAYS_HOW = _any(
    r"^(?:to|how to|steps?|runbook|playbook|recipe|checklist|um .{3,80} zu \w+|anleitung|schritte"
    r"|pour \w+er|comment|étapes|para \w+[aei]r|cómo|pasos)\b(?!.{0,40}\bprefer)",
    r"^\w+ing [^.:`]{2,60}: ?",  # "Releasing X: ..."
    r"\b(?:first|step 1|1[.)]|zuerst|d'abord|primero) .{3,200}\b(?:then|step 2|2[.)]|finally|dann|ensuite|luego)\b",
    r"\b(?:and|or|&&|then|afterwards|danach|dann|puis|luego) (?:run )?`",
    r"^(?:run|use|call|execute|start|restart|deploy|release|roll ?back|install|build|test|replay|restore|reset|seed"
    r"|regenerate|debug|führe|lance[rz]?|ejecut\w+) [^.:]{0,80}`",
)
_COMMAND = _any(
    rf"^[^`]{{0,120}}(?:[:：]|\b(?:with|run|runs?|use|locally|via|mit|avec|con)) ?`{_PROGRAM}", rf"^`{_PROGRAM}"
)
_ANY_COMMAND = _any(rf"`{_PROGRAM}[^`]+`")
_NAMED_PROCEDURE = _any(
    r"^(?:steps|schritte|étapes|pasos)\b[^.]{0,80}:|(?:^|[ :])1[.)] .{3,200} 2[.)] ",
    r"^(?:hotfix|roll ?back|rotation|rotating|replay|recovery|wiederherstellung|restore|release|onboarding"
    r"|local (?:setup"
    r"|development)|set ?up|debugging)\b[^.]{0,60}: ",
)

# What went wrong -----------------------------------------------------------------------------------------------------

_ERROR_NAME = _any(
    r"(?-i:\b(?:[A-Za-z]+\.)*[A-Z]\w*(?:Error|Exception|Denied|NotFound|Mismatch)\b)(?!,| ?\()",
    r"(?-i:\bE[A-Z]{5,}\b|\bOOM|\bSIG(?:SEGV|KILL|ABRT)\b|\b[A-Z]+_[A-Z_]*(?:EXIST|ERROR|FAILED|DENIED|NOT_FOUND))",
    r"\b(?:segfault|deadlocked|panick?ed|exit code \d+|exited with|errno|core dump|stack trace)\b",
    r"^[^.:]{0,40}[\"“„«「`][^\"”“»」`]{12,}[\"”“»」`][^.]{0,80}(?:: |because|when|after|in |on )",
    r"\b(?:40\d|50\d) (?:gateway|errors?|internal|bad|service|time)|\b(?:answered|ended|returned"
    r"|replied) (?:with )?[45]0\d\b",
)
_PROBLEM = _words(
    r"crash(?:e[ds]|ing|-loop\w*)?|fail(?:s|ed|ing|ures?)|hung|hangs?|fr[eo]zen?|stuck|timed out|broken?"
    r"|corrupt(?:ed)?",
    r"lost|missing|wrong(?:ly)?|duplicates?|doubled?|twice|stale|flaky|leak(?:ed|ing|s)?|race|deadlocks?"
    r"|out of memory",
    r"slow(?:er|ed)|spiked?|jumped|crept|ran out|full|rejected|denied|refused|could not|couldn't|cannot|can't|unable",
    r"did not|didn't|would not|wouldn't|no longer worked|not working|silently|unexpected(?:ly)?|bug|errors?"
    r"|warnings?|exceeded|blank",
    r"invalid|killed|died|dropped|empty|hidden|off by one|shifted|out ?of ?sync|conflict(?:ed|s)|endless(?:ly)?"
    r"|intermittent",
    r"fehler\w*|falsch\w*|fehlten?|kaputt|verloren|doppelt\w*|langsam\w*|h[iä]ngt?e?n?|brach\w*|scheiter\w+"
    r"|abst[uü]rz\w*",
    r"blieb(?:en)?|erreurs?|échou\w+|échec|perdu\w*|plant(?:e|é|ait)|lente?|bloqué\w*|fall(?:o|a|ó|aba)"
    r"|perdid\w+|roto",
)  # fmt: skip
_PROBLEM_ELSEWHERE = re.compile(
    r"ошиб|не работ|пада[лю]|упал|завис|терял|エラー|失敗|落ち"
    r"|クラッシュ|できな|报错|错误|失败|崩溃|超时|丢失|暴涨|突然|「"
)
_REMEDY = _words(
    r"fix(?:ed|es)?|solved|solution|causes?|caused|the reason was|because|due to|turned out|since then"
    r"|workaround|helped",
    r"culprit|reverted|now|instead|use[ds]?|had been|was set|set to|needs?|so that|must|since|until|was (?:not"
    r"|missing)",
    r"ursache|weil|behoben|gelöst|seitdem|seither|jetzt|lösung|lag an|stattdessen|bekommt|muss|hilft",
    r"corrigé\w*|résolu\w*|parce que|maintenant|il faut|corregid\w+|solucionad\w+|causa|porque|ahora|hay que",
)  # fmt: skip
_REMEDY_ELSEWHERE = re.compile(
    r"исправ|причин|из-за|решен|потому|теперь|надо|нужно|原因|ため|修正|解決|対処|変更|因为|修复|改成|改为|解决|现在"
)
# "What was seen: why it was so", which is how most are told.
_BEFORE_COLON = re.compile(r"^(?!\w+[ ,]\w+:)[^:]{15,160}: (?=[a-z])|^[^:]{15,160}: (?=[A-ZÄÖÜ]?[a-zäöü]+ )")
_PAST = _words(
    r"was|were|had|did|\w+ed|got|went|came|took|froze|broke|lost|hung|crept|ran|fell|grew|jumped|seen",
    r"war(?:en)?|hatten?|wurden?|lief(?:en)?|kam(?:en)?|ging(?:en)?|ließ\w*|blieb\w*|brach\w*|fehlten?"
    r"|\w+ierten?|était|avait"
    r"|\w+aient|\w+ait|fue|era|había|\w+aba|\w+ó",
)
_CODE_PLAGUE = _any(
    r"\b(?:root cause|regression|workaround|gotcha|post-?mortem|outage caused|memory leak|race condition)\b"
)

# What somebody likes -------------------------------------------------------------------------------------------------

_LIKES = _any(
    r"\b(?:i|we|the user|user|she|he|(?-i:[A-Z][a-z]+)) (?:really |strongly |always |much |also "
    r"|usually )*(?:prefers?"
    r"|likes?|dislikes?|hates?|loves?|wants?|would rather|expects?|does ?n[o']t (?:like|want)"
    r"|do ?n[o']t (?:like|want))\b",
    r"\b(?:preferences?|preferred|favou?rite|i use|my (?:editor|shell|terminal|style|convention|keyboard|browser|name"
    r"|pronouns|font|theme|laptop|machine))\b",
    r"\b(?:ask|tell|show|remind|give|call|send|to) me\b|\b(?:as|unless|before|when|if|how|so) i\b|\bfor me\b|\bi'd\b",
    r"\b(?:bitte|ich mag|bevorzug\w+|mir|ich möchte|ich will|preferir|préfère|s'il te plaît|j'aime|prefier[oe]"
    r"|por favor"
    r"|me gusta)\b|предпочита|пожалуйста|お願い|好み|してほしい|请|喜欢|偏好",
)
_TELLS = _any(
    # Orders about the agent's own work.
    r"^(?:please|always|never|don't|do not|avoid|keep|write|explain|answer|reply|prefer|stick to|no|use"
    r"|in) [^`:]{0,80}\b"
    r"(?:code|comments?|commits?|branch(?:es)?|tests?|reviews?|prs?|pull requests?|messages?|answers?|replies|docs?"
    r"|docstrings?|names?|naming|functions?|types?|emojis?|english|german|explanations?|summar\w+|imports?"
    r"|abbreviations?"
    r"|dependenc\w+|librar\w+|unwrap|mocks?)\b",
    r"^(?:commits?|commit messages?|code reviews?|pull requests?|prs?|type hints|docstrings|comments"
    r"|line[- ]length|naming"
    r"|reviews?|answers|replies|imports|formatting|variable names)\b",
    r"\b(?:line[- ]length|indent\w*|quotes|tabs|spaces|conventional commits|imperative mood|linear history|type hints"
    r"|docstrings|emojis?|early returns?|strict)\b",
)

# What was decided ----------------------------------------------------------------------------------------------------

_DECIDED = _any(
    r"\b(?:decided|decisions?|decide to|we chose|settled on|agreed|went with|going with|ruled out|considered"
    r"|in favou?r of|approved|adopted|standardi[sz]ed?|voted|signed off|policy|postponed|rejected)\b",
    r"\bwe (?:will|won't|use|do not|don't|keep|never|stay|moved|switched|migrated|replaced|dropped|removed"
    r"|stopped)\b",
    r"\b(?:switch|migrat|mov|chang)(?:ed|ing|es?) (?:\w+ )?(?:from|away|over)\b|\bleft \w+ for\b|\bswitched to\b",
    r"\b(?:replace[sd]?|replacing|retired|abandoned|cancelled|deprecated|phased out|removed|gave up)\b",
    r"\b(?:instead of|rather than|over (?-i:[A-Z])|no longer|from now on|on purpose|deliberate(?:ly)?"
    r"|trade-?off|not an? )\b",
    r", (?:not|never|no) \w|; (?:no|never|not) \w|\band not\b|\bnot \w+ but\b|\bno \w+ (?:for|in|on|at|and"
    r"|or)\b|^no ",
    r"\b(?:reason|rationale|why|grund|begründung|raison|motivo): ?",
    r"\b(?:must|may|shall|should|is|are|can) (?:not|never|only|always)\b|\b(?:never|only|always) \w+ed\b|\bmust\b",
    r"\b(?:forbidden|banned|mandatory|not allowed|append-only|read-only by design|the exception"
    r"|exceptions? (?:is|are))\b",
    r"\b(?:entschieden|entscheidung|beschlossen|wir nehmen|statt|nicht (?:über|mehr|auf)|abgelöst|ersetzt"
    r"|umgestellt|künftig"
    r"|ab sofort|nur (?:noch|über|für|mit)|bieten wir|décid\w+|choisi|au lieu|désormais|decidi\w+|decisión"
    r"|elegi\w+|en lugar|en vez)\b",
    r"реш[еи]|закрыт|вместо|больше не|отказал|только через|不再|决定|改用"
    r"|不用|统一|采用|採用する|決定|やめ|統一|に変更|に移行|代わり",
)
_REASON = _words(
    r"because|since|so that|in order to|to avoid|otherwise|as (?:it|they|we|the)|simple|simpler|too \w+",
    r"weil|damit|sonst|denn|parce que|car|sinon|afin|porque|para que|ya que",
)
_CHOICE = _words(
    r"only|never|always|not|no|one|single|every|each|nur|nie|immer|kein\w*|jamais|toujours|seul\w*|nunca|siempre"
)

# Whom or where to ask ------------------------------------------------------------------------------------------------

_POINTS = _any(
    r"\b(?:owns|owner of|contact(?: person)? (?:is|for)|responsible for|in charge of|ask (?-i:[A-Z])\w+"
    r"|go(?:es)? through"
    r"|questions about|see also|documented (?:in|at)|docs? (?:is|are|live|lives) (?:in|at)|documentation (?:is"
    r"|of|for))\b",
    r"^see (?:also )?\S|^(?:docs|link|spec|designs?|dashboards?|wiki|board|runbooks? (?:is|are|live)"
    r"|[\w ]{0,20}documents?)\b[^.]{0,60}: ",
    r"^[^.]{0,80}https?://\S+$",
    r"\b(?:ansprechpartner\w*|zuständig|dokumentation|siehe|responsable de"
    r"|voir|contacto|véase)\b|担当|负责|отвечает за",
)
_RULES = (
    (Kind.PROCEDURE, ((_COMMAND,), (_ANY_COMMAND, _SAYS_HOW), (_NAMED_PROCEDURE,))),
    (Kind.PREFERENCE, ((_TELLS,),)),
    (
        Kind.ERROR,
        (
            (_ERROR_NAME,),
            (_CODE_PLAGUE,),
            (_PROBLEM, _REMEDY, _PAST),
            (_PROBLEM, _BEFORE_COLON, _PAST),
            (_PROBLEM_ELSEWHERE, _REMEDY_ELSEWHERE),
        ),
    ),
    (Kind.PREFERENCE, ((_LIKES,),)),
    (Kind.REFERENCE, ((_POINTS,),)),
    (Kind.DECISION, ((_DECIDED,), (_REASON, _CHOICE))),
)
