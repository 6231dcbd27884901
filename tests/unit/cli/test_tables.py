"""What verbs print is whole where no terminal is, and text stays text."""

from relay.cli import tables

LONG = "one that goes on for longer than a terminal is wide, " * 6


def test_a_line_that_is_piped_is_neither_cut_nor_broken(capsys):
    from rich.text import Text
    from rich.tree import Tree

    shown = tables.table("entry", "why")
    shown.add_row("m1", LONG)
    tables.show(shown)
    tree = Tree("", hide_root=True)
    tree.add(Text(LONG))
    tables.show(tree)
    assert [line for line in capsys.readouterr().out.splitlines() if LONG.strip() in line][1:]


def test_brackets_and_colons_are_text(capsys):
    shown = tables.table("", "")
    shown.add_row("subject", "[bold]secure[/bold] :smile: [/nothing]")
    tables.show(shown)
    assert "[bold]secure[/bold] :smile: [/nothing]" in capsys.readouterr().out
