"""Turns the books into three plain texts: what the model sees, what chooses it, what judges it.

Each output holds stories separated by two blank lines; a story holds paragraphs separated by one.
Titles and chapter headings are dropped, so that a story starts with its first sentence and a prompt
such as "Once upon a time" stands where the model expects it: right after the begin token.

    train.txt    everything else
    valid.txt    the last 2 % of each tale collection but Grimm: sizes and schedules go by it
    heldout.txt  the last 5 % of Grimm: for the published figure, never for a choice
"""

import argparse
import pathlib
import re

STORY_BREAK = "\n\n\n"
HELD_OUT_BOOK, HELD_OUT_SHARE = "grimm_fairy-tales", 0.05
VALID_SHARE = 0.02
LEFT_OUT = {"tinyshakespeare"}  # drama, not prose

# A chapter of these does not start a story: each is one long story.
NOVELS = {
    "baum_ozma-of-oz", "baum_wizard-of-oz", "carroll_alice", "carroll_looking-glass",
    "grahame_wind-in-the-willows", "macdonald_princess-and-goblin", "nesbit_five-children",
    "nesbit_railway-children",
}
SMALL_WORDS = set("a an and as at for from in into no of on or out the to up who with "
                  "aes by de des du et la par".split())  # of titles and of the names of sources
SHORTEST_STORY = 600  # bytes; anything shorter is a verse or a note under a heading of its own


def is_numbering(paragraph):
    """A chapter mark inside a story, such as "CHAPTER IV" or "VIII" or "3. The Rescue"."""
    return re.match(r"(chapter\b|\d+\. |[IVX]+\.?$)", paragraph, re.IGNORECASE) is not None


def is_title(paragraph):
    """A short line in capitals, or one with no full stop whose words all start with a capital."""
    if "\n" in paragraph or not 3 < len(paragraph) < 90 or not paragraph[0].isupper():
        return False
    return paragraph.isupper() or (paragraph[-1].isalpha() and is_capitalised(paragraph))


def is_capitalised(paragraph):
    words = re.findall(r"[A-Za-z][A-Za-z'-]*", paragraph)
    return all(w[0].isupper() or w in SMALL_WORDS for w in words)


def is_source_note(paragraph):
    """What stands before or after a story: "(Servian Story)", "By the Comte de Caylus."."""
    return len(paragraph) < 60 and (paragraph[0] == "(" or
                                    paragraph[0].isalpha() and is_capitalised(paragraph))


def tidy(story):
    """Drops source notes at both ends and turns a drop cap's "ONCE upon" into "Once upon"."""
    while story and is_source_note(story[0]):
        story = story[1:]
    while story and is_source_note(story[-1]):
        story = story[:-1]
    if story:
        first, space, rest = story[0].partition(" ")
        if first.isupper():
            story = [first.capitalize() + space + rest, *story[1:]]
    return story


def split_stories(book, is_novel):
    """The stories of a book as lists of paragraphs, headings dropped."""
    stories = [[]]
    for paragraph in re.split(r"\n{2,}", book.strip()):
        if "\n" not in paragraph and is_numbering(paragraph):
            continue
        if not is_title(paragraph):
            stories[-1].append(paragraph)
        elif not is_novel and sum(map(len, stories[-1])) >= SHORTEST_STORY:
            stories.append([])
    return [story for story in map(tidy, stories) if story]


def join(stories):
    return STORY_BREAK.join("\n\n".join(story) for story in stories)


def cut_tail(stories, share):
    """Splits off the last `share` of the bytes, rounded up to a whole paragraph."""
    wanted = share * len(join(stories).encode())
    head, tail = [list(story) for story in stories], []
    while len(join(tail).encode()) < wanted:
        if not tail or not head[-1]:
            head = [story for story in head if story]
            tail.insert(0, [])
        tail[0].insert(0, head[-1].pop())
    return [story for story in head if story], tail


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=pathlib.Path, required=True, help="folder of the books")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder for the outputs")
    args = parser.parse_args()

    train, valid, heldout = [], [], []
    for path in sorted(args.text.glob("*.txt")):
        if path.stem in LEFT_OUT:
            continue
        stories = split_stories(path.read_text(encoding="utf-8"), path.stem in NOVELS)
        if path.stem == HELD_OUT_BOOK:
            stories, tail = cut_tail(stories, HELD_OUT_SHARE)
            heldout += tail
        elif path.stem not in NOVELS:
            stories, tail = cut_tail(stories, VALID_SHARE)
            valid += tail
        train += stories

    args.work.mkdir(parents=True, exist_ok=True)
    for name, stories in (("train", train), ("valid", valid), ("heldout", heldout)):
        text = join(stories)
        (args.work / f"{name}.txt").write_text(text, encoding="utf-8")
        print(f"{name}: {len(stories)} stories, {len(text.encode())} bytes")


if __name__ == "__main__":
    main()
