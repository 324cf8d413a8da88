"""Trains the sample model: a small Llama that tells TinyStories, as a Hugging Face checkpoint.

    python samples/train_sample_model.py --corpora ../shared/data/corpora -o samples/model

It takes about half an hour of one CPU core. Stop it any time: --resume goes on from the last saved state, and
with another --steps it ends earlier or later, since the learning rate falls over the last --decay steps only.
The final weights are the moving average of the weights, in bfloat16.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor
from train import card, stories, tokenizer
from train.muon import Muon
from train.tokenizer import ASSISTANT, BEGIN, END, USER
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

CONTEXT = 512
IGNORED = -100  # the label that cross_entropy passes over


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpora", type=Path, required=True, help="folder that holds tinystories/")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--state", type=Path, default=Path("sample_model_state.pt"), help="for --resume")
    parser.add_argument("--resume", action="store_true", help="go on from --state")
    parser.add_argument("--steps", type=int, default=1040, help="in all (default %(default)s)")
    parser.add_argument("--decay", type=int, default=290, help="last steps, in which the rate falls to 0")
    parser.add_argument("--batch-tokens", type=int, default=3072, help="tokens a step (default %(default)s)")
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--mlp", type=int, default=704)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--heads", type=int, default=4, help="of queries; half as many of keys")
    parser.add_argument("--lr-matrix", type=float, default=0.02, help="Muon: the layers' matrices")
    parser.add_argument("--lr-vector", type=float, default=0.003, help="Adam: the embedding, the norms")
    parser.add_argument("--weight-decay", type=float, default=0.05, help="of the layers' matrices")
    parser.add_argument("--average", type=float, default=0.995, help="what the moving average keeps a step")
    parser.add_argument("--chat", type=float, default=0.4, help="share of stories told on request")
    parser.add_argument("--report", type=int, default=150, help="steps between validations and saved states")
    parser.add_argument("--compile", action="store_true", help="torch.compile: faster, needs a C++ compiler")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


class Stream:
    """An endless stream of token ids and labels: every epoch tells all stories once, in another order, some
    as the answer to a user's request. Requests carry no loss, so that the model does not ask for stories.
    """

    def __init__(self, told: list[str], coder: Tokenizer, chat: float, seed: int) -> None:
        topics = stories.Topics(told)
        self.coder = coder
        self.chat = chat
        self.seed = seed
        self.told = [(topics.of(story), self.ids(story)) for story in told]
        self.epoch = 0
        self.left: list[tuple[int, int]] = []  # (id, label), reversed

    def ids(self, text: str) -> list[int]:
        return list(self.coder.encode(text, add_special_tokens=False).ids)

    def exchange(self, request: str, answer: list[int]) -> list[tuple[int, int]]:
        asked = [USER, *self.ids(request), END, ASSISTANT]
        return [(i, IGNORED) for i in asked] + [(i, i) for i in [*answer, END]]

    def next_epoch(self) -> list[tuple[int, int]]:
        rng = random.Random(f"{self.seed}/{self.epoch}")
        self.epoch += 1
        result: list[tuple[int, int]] = []
        conversing = False
        for topic, story in rng.sample(self.told, len(self.told)):
            if rng.random() >= self.chat:
                result += [(i, i) for i in [BEGIN, *story, END]]
                conversing = False
                continue
            if not (conversing and rng.random() < 0.3):
                result.append((BEGIN, BEGIN))
                if rng.random() < 0.05:
                    result += self.exchange(rng.choice(stories.GREETINGS), self.ids(stories.GREETING_REPLY))
            result += self.exchange(stories.request(topic, rng), story)
            conversing = True
        return result

    def take(self, count: int) -> tuple[Tensor, Tensor]:
        """The next ids [count] and, for each, the label of the id after it."""
        while len(self.left) <= count:
            self.left = self.next_epoch()[::-1] + self.left
        taken = [self.left.pop() for _ in range(count)]
        following = [*taken[1:], self.left[-1]]
        return torch.tensor([i for i, _ in taken]), torch.tensor([label for _, label in following])


def loss_of(model: torch.nn.Module, ids: Tensor, labels: Tensor, length: int) -> Tensor:
    """Mean cross-entropy in nats a token, over sequences of the given length."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=ids.view(-1, length), use_cache=False).logits
    return F.cross_entropy(logits.float().view(-1, logits.size(-1)), labels, ignore_index=IGNORED)


@torch.no_grad()
def validate(model: torch.nn.Module, ids: Tensor, labels: Tensor) -> float:
    """Mean loss over whole windows of CONTEXT tokens."""
    windows = range(0, len(ids) - CONTEXT + 1, CONTEXT)
    losses = [loss_of(model, ids[i : i + CONTEXT], labels[i : i + CONTEXT], CONTEXT).item() for i in windows]
    return sum(losses) / len(losses)


@torch.no_grad()
def tell(model: LlamaForCausalLM, coder: Tokenizer, prompt: list[int], temperature: float) -> str:
    """The prompt and what follows it, at most 220 tokens; temperature 0 takes the likeliest each time."""
    sampling = {"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
    ids = torch.tensor([[BEGIN, *prompt]])
    told = model.generate(ids, max_new_tokens=220, do_sample=temperature > 0, eos_token_id=END, **sampling)
    return coder.decode(told[0, 1:].tolist(), skip_special_tokens=False)


def export(model: LlamaForCausalLM, average: list[Tensor], out: Path, coder: Tokenizer) -> LlamaForCausalLM:
    """Writes the averaged weights in bfloat16; returns what was written, in float32."""
    final = LlamaForCausalLM(model.config)
    for p, mean in zip(final.parameters(), average, strict=True):
        p.data.copy_(mean)
    final.to(torch.bfloat16)
    final.generation_config = GenerationConfig(
        bos_token_id=BEGIN, eos_token_id=END, pad_token_id=END, do_sample=True, temperature=0.7, top_p=0.9
    )
    out.mkdir(parents=True, exist_ok=True)
    final.save_pretrained(out)
    tokenizer.save(coder, out, CONTEXT)
    return final.float().eval()


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    if not (args.corpora / stories.LOWER).is_file():
        sys.exit(f"no {stories.LOWER} in {args.corpora}; --corpora is the folder that holds tinystories/")

    texts = stories.load(args.corpora, seed=args.seed)
    coder = tokenizer.train(texts.train, args.vocab)
    stream = Stream(texts.train, coder, args.chat, args.seed)
    held_out = [i for story in texts.valid for i in [BEGIN, *stream.ids(story), END]]
    valid_ids, valid_labels = torch.tensor(held_out[:-1]), torch.tensor(held_out[1:])
    characters = sum(map(len, texts.valid)) / len(held_out)
    corpus_tokens = sum(len(story) for _, story in stream.told)
    print(
        f"{len(texts.train)} stories, {corpus_tokens} tokens, {characters:.2f} characters a token; "
        f"{len(texts.valid)} held out; {texts.duplicates} duplicates left out; "
        f"capitals {texts.case_accuracy:.2%} exact",
        flush=True,
    )

    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=args.vocab,
            hidden_size=args.hidden,
            intermediate_size=args.mlp,
            num_hidden_layers=args.layers,
            num_attention_heads=args.heads,
            num_key_value_heads=args.heads // 2,
            max_position_embeddings=CONTEXT,
            rope_theta=10000.0,
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            bos_token_id=BEGIN,
            eos_token_id=END,
            pad_token_id=END,
            attn_implementation="eager",  # faster than the fused kernel for heads this small on a CPU
        )
    )
    weights = list(model.parameters())
    average = [p.detach().clone() for p in weights]
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim == 1 or "embed" in name]
    optimizers = [
        Muon(matrices, lr=args.lr_matrix, weight_decay=args.weight_decay),
        torch.optim.AdamW(others, lr=args.lr_vector, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]

    start, spent, history = 0, 0.0, []
    if args.resume:
        state = torch.load(args.state)
        start, spent, history = state["step"], state["spent"], state["history"]
        model.load_state_dict(state["model"])
        average = state["average"]
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for _ in range(start):
            stream.take(args.batch_tokens)

    train_loss = torch.compile(loss_of, dynamic=False) if args.compile else loss_of
    began, losses = time.time(), []
    for step in range(start, args.steps):
        falling = min(1.0, (args.steps - step) / args.decay)
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * min(falling, (step + 1) / 50)
        # Stories are short: long sequences are only needed at the end, to make the whole context usable.
        length = CONTEXT if falling < 0.5 else CONTEXT // 2
        loss = train_loss(model, *stream.take(args.batch_tokens), length)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(average, weights, 1 - min(args.average, (step + 1) / (step + 10)))
        losses.append(loss.item())
        if step % 20 == 0:
            print(f"step {step} loss {losses[-1]:.3f} {spent + time.time() - began:.0f} s", flush=True)
        if (step + 1) % args.report and step + 1 < args.steps:
            continue
        final = export(model, average, args.out, coder)
        valid_loss = validate(final, valid_ids, valid_labels)
        spent, began = spent + time.time() - began, time.time()
        history.append(
            {
                "step": step + 1,
                "epoch": round((step + 1) * args.batch_tokens / corpus_tokens, 2),
                "train_loss": round(sum(losses) / len(losses), 4),
                "valid_loss": round(valid_loss, 4),
                "seconds": round(spent),
            }
        )
        print(json.dumps(history[-1]), flush=True)
        print(tell(final, coder, stream.ids("Once upon a time"), 0), flush=True)
        state = {
            "step": step + 1,
            "spent": spent,
            "history": history,
            "model": model.state_dict(),
            "average": average,
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        }
        beside = args.state.with_suffix(".part")
        torch.save(state, beside)
        beside.replace(args.state)
        losses = []

    final = export(model, average, args.out, coder)
    once, fox = stream.ids("Once upon a time"), stream.ids("One day, a little fox")
    asked = [USER, *stream.ids("Tell me a story about a cat."), END, ASSISTANT]
    samples = [
        ("A story, temperature 0", tell(final, coder, once, 0)),
        ("A story, temperature 0.8", tell(final, coder, fox, 0.8)),
        ("A chat, temperature 0", tell(final, coder, asked, 0)),
    ]
    for name, text in samples:
        print(f"--- {name}\n{text}")
    bits = history[-1]["valid_loss"] / math.log(2) / characters
    card.write(args.out, args, final.config, texts, history, bits, corpus_tokens, samples)


if __name__ == "__main__":
    main()
