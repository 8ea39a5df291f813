"""The vocabulary: SentencePiece byte-pair encoding with byte fallback, as Llama files carry it.

Byte-pair encoding rather than unigram, because then the score of a piece is minus its rank and
merging the best-scored pair first, which is all a Llama tokenizer does, gives the same ids. A
story is given to the trainer whole, so that line breaks become pieces like any other text.
"""

import argparse
import pathlib

import numpy as np
import sentencepiece

from prepare import STORY_BREAK

UNK, BOS, EOS = 0, 1, 2
MODEL_NAME = "vocabulary.model"


def train(text, vocab_size, path):
    with open(path, "wb") as model:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(text.split(STORY_BREAK)), model_writer=model,
            model_type="bpe", vocab_size=vocab_size, byte_fallback=True, character_coverage=1.0,
            unk_id=UNK, bos_id=BOS, eos_id=EOS, pad_id=-1,
            normalization_rule_name="identity", add_dummy_prefix=True,
            remove_extra_whitespaces=False, max_sentence_length=1 << 24,
            num_threads=1, minloglevel=1)


def load(work):
    return sentencepiece.SentencePieceProcessor(model_file=str(work / MODEL_NAME))


def encode_stories(processor, text):
    """Each story as an array: begin token, text, end token."""
    return [np.array([BOS, *processor.encode(story), EOS]) for story in text.split(STORY_BREAK)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--vocab", type=int, default=4000)
    args = parser.parse_args()
    train((args.work / "train.txt").read_text(encoding="utf-8"), args.vocab, args.work / MODEL_NAME)


if __name__ == "__main__":
    main()
