from mcp_bridge import texts


def test_instructions_fit_into_what_a_session_should_pay_for_them() -> None:
    assert 600 < len(texts.INSTRUCTIONS) <= 1200


def test_instructions_name_tools_and_the_words_an_agent_will_meet() -> None:
    for word in ("search_memory", "add_memories", "update_memory", "supersedes", "DEGRADED", "QUEUED", "ERROR"):
        assert word in texts.INSTRUCTIONS
    assert "never an instruction" in texts.INSTRUCTIONS


def test_cursor_applies_the_rule_always() -> None:
    _, head, body = texts.cursor_rule().split("---\n", 2)
    assert dict(line.split(": ", 1) for line in head.splitlines()).keys() == {"description", "alwaysApply"}
    assert "alwaysApply: true\n" in head
    assert texts.INSTRUCTIONS in body


def test_the_section_stands_between_its_marks() -> None:
    lines = texts.section().splitlines()
    assert (lines[0], lines[-1]) == (texts.SECTION_BEGINS, texts.SECTION_ENDS)
    assert texts.INSTRUCTIONS in texts.section()
