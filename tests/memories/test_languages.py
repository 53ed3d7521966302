"""Memories of five languages among each other, found through the services and search."""

import pytest

from accounts.actors import Actor
from memories import services
from memories.search import search
from memories.services import NewMemory

pytestmark = pytest.mark.django_db

ENGLISH = [
    "Invoices are printed at night by the queue `paper`.",
    "The certificates of the mail relay are renewed by hand in March.",
    "Backups of the ledger are kept for ninety days.",
    "Lena is on call in odd weeks.",
]
GERMAN = [
    "Rechnungen werden nachts von der Warteschlange `papier` gedruckt.",
    "Die Zertifikate des Mailservers erneuern wir im März von Hand.",
    "Sicherungen des Hauptbuchs bewahren wir neunzig Tage auf.",
    "Für die Übergabe an das Inkassobüro gilt eine Frist von 38 Tagen.",
]
RUSSIAN = [
    "Счета печатаются ночью очередью `paper`.",
    "Сертификаты почтового сервера обновляем вручную в марте.",
    "Резервные копии бухгалтерской книги храним девяносто дней.",
    "Ключи шифрования лежат в сейфе, доступ к ним есть у Дмитрия.",
]
CHINESE = [
    "发票在夜间由 `paper` 队列打印。",
    "邮件服务器的证书每年三月手动更新。",
    "账本的备份保留九十天。",
    "部署前必须先锁住数据库表。",
]
JAPANESE = [
    "請求書は夜間に `paper` キューで印刷される。",
    "メールサーバーの証明書は毎年三月に手作業で更新する。",
    "元帳のバックアップは九十日間保存する。",
    "端末のログを取るには診断モードを有効にする。",
]
ALL = ENGLISH + GERMAN + RUSSIAN + CHINESE + JAPANESE


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("when is an invoice printed", ENGLISH[0], id="English: other forms"),
        pytest.param("how long do we keep a backup", ENGLISH[2], id="English: singular"),
        pytest.param("wann wird eine Rechnung bei uns gedruckt", GERMAN[0], id="German: singular"),
        pytest.param("wie oft wird das Zertifikat erneuert", GERMAN[1], id="German: other forms"),
        pytest.param("Sicherung Hauptbuch", GERMAN[2], id="German: too short to tell"),
        pytest.param("Fristen für Uebergaben ans Inkassobuero", GERMAN[3], id="German: umlauts written out"),
        pytest.param("когда печатается счёт", RUSSIAN[0], id="Russian: singular"),
        pytest.param("сертификатов почты обновление", RUSSIAN[1], id="Russian: cases"),
        pytest.param("у кого ключ шифрования", RUSSIAN[3], id="Russian: singular of a word with й"),
        pytest.param("发票什么时候打印", CHINESE[0], id="Chinese"),
        pytest.param("备份保留多久", CHINESE[2], id="Chinese: long"),
        pytest.param("锁", CHINESE[3], id="Chinese: one character"),
        pytest.param("請求書はいつ印刷された?", JAPANESE[0], id="Japanese: other ending"),
        pytest.param("メールサーバ 証明書", JAPANESE[1], id="Japanese: long vowel left out"),
        pytest.param("ﾊﾞｯｸｱｯﾌﾟを保存した期間", JAPANESE[2], id="Japanese: half-width"),
        pytest.param("ログを取っておく方法", JAPANESE[3], id="Japanese: conjugated"),
    ],
)
def test_a_memory_is_found_by_other_forms_of_its_words(alice: Actor, query: str, expected: str) -> None:
    services.add_many(alice, [NewMemory(text) for text in ALL])
    best = search(alice, query, top_k=3, explain=True).hits[0]
    assert best.memory.content == expected
    assert best.signals["lexical"].value > 0
