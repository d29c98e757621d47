"""Train the demonstration checkpoint. Run: ``python -m skytext.demo.training.train --out DIR``

A LLaVA model is trained from scratch. The scenes are drawn during the training, and no image is
used twice. All seeds for training are below ``HELD_OUT_SEED``, and all seeds for scoring are at
least ``HELD_OUT_SEED``. Therefore no scene is used for both.
"""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from PIL import Image
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional

from skytext.demo.checkpoint_shape import (
    BOS,
    EOS,
    IMAGE,
    IMAGE_MEAN,
    IMAGE_PX,
    IMAGE_STD,
    NUM_IMAGE_TOKENS,
    PAD,
    LlavaForConditionalGeneration,
    ModelShape,
    build_config,
    prompt_text,
    save_checkpoint,
    token_id,
    train_tokenizer,
)
from skytext.demo.scenes.generate import (
    HELD_OUT_SEED,
    POSITIONS,
    Scene,
    group_places,
    line_paths,
    make_scene,
    render,
)
from skytext.demo.scenes.land_covers import LAND_COVERS, SIDE_VECTORS
from skytext.demo.scenes.linear_features import LINEAR_KINDS, ORIENTATIONS
from skytext.demo.scenes.object_kinds import ARRANGEMENTS, OBJECT_KINDS
from skytext.demo.scenes.truth_captions import FIELDS, describe, target_text
from skytext.demo.training.plot import write_plot
from skytext.demo.training.score import ScoreSummary, score_description, summarise

logger = logging.getLogger(__name__)

_WARMUP_STEPS = 100
_AUXILIARY_WEIGHT = 0.5
_MAX_NEW_TOKENS = 220
_COVERS, _SIDES = list(LAND_COVERS), list(SIDE_VECTORS)
_KINDS, _LINES = list(OBJECT_KINDS), list(LINEAR_KINDS)
_NUM_COUNTS = 7
_CELL_CLASSES = (len(_KINDS) + 1, _NUM_COUNTS, 3, len(ARRANGEMENTS) + 1)
_LINE_SLOTS = len(ORIENTATIONS) * 3


@dataclass(frozen=True)
class Recipe:
    """The settings of one training run.

    If the run uses only one thread, the same settings give the same result.

    Attributes:
        seed: Seed of the initial weights. The seed also selects the training scenes.
        batch_size: Number of scenes per step.
        learning_rate: Maximum learning rate. It is reached at the end of the warm-up.
        steps: Length of the schedule in steps. If None, ``minutes`` is used instead.
        minutes: Length of the schedule in minutes of training. It is used only if ``steps`` is
            None.
        shape: Sizes of the network.
        num_tokenizer_scenes: Number of scenes from which the tokenizer is trained.
        num_scored: Number of held-out scenes in each scoring.
        score_every: Number of steps between two scorings.
        save_every: Number of steps between two checkpoints.
        facts_share: Share of the schedule in which only the vision tower is trained, to predict the
            facts. A step without text takes a third of the time, and the vision tower learns more
            slowly than the text model.
        compiled: Whether to compile the network.
    """

    seed: int = 0
    batch_size: int = 64
    learning_rate: float = 1e-3
    steps: int | None = None
    minutes: float = 60.0
    shape: ModelShape = field(default_factory=ModelShape)
    num_tokenizer_scenes: int = 20_000
    num_scored: int = 64
    score_every: int = 500
    save_every: int = 250
    facts_share: float = 0.25
    compiled: bool = False


@dataclass(frozen=True)
class Batch:
    """One batch of scenes.

    Attributes:
        pixels: float32 (B, 3, 112, 112), normalised.
        targets: int64 (B, T), tokens of the target text and the end token, with padding on the
            right.
        is_target: bool (B, T), False for padding.
        cells: int64 (B, 9, 4), for each position: object kind (0 for none), count, size and
            arrangement.
        covers: int64 (B,), index of the land cover.
        sides: int64 (B,), index of the side with water. If no side has water, the value is the
            number of sides.
        lines: float32 (B, kinds × orientations × 3). Each index is a combination of a kind of
            linear feature, an orientation and an offset (negative, zero or positive). The value is
            1 if the scene has a feature with this combination, and 0 if it does not.
        patches: float32 (B, 64, line kinds + object kinds). The value for a kind of linear feature
            is 1 if the middle line of a feature crosses the patch. The value for a kind of object
            is 1 if the centre of an object is in the patch. All other values are 0.
    """

    pixels: torch.Tensor
    targets: torch.Tensor
    is_target: torch.Tensor
    cells: torch.Tensor
    covers: torch.Tensor
    sides: torch.Tensor
    lines: torch.Tensor
    patches: torch.Tensor

    def to(self, device: str) -> Batch:
        """Return a copy of the batch on a device."""
        return Batch(*(getattr(self, f.name).to(device) for f in dataclasses.fields(self)))


class AuxiliaryHead(nn.Module):
    """A head that predicts the facts from the projected image tokens.

    The checkpoint does not contain this head.

    The head is used to train the vision tower before the text model is trained. The vision tower
    then learns the kinds and the positions of objects and linear features.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cells = nn.Linear(width, sum(_CELL_CLASSES))
        self.whole = nn.Linear(width, len(_COVERS) + len(_SIDES) + 1)
        # Use all nine positions. A mean over all tokens does not contain the orientation of a line.
        # A training run that used the mean did not learn orientations.
        self.lines = nn.Linear(len(POSITIONS) * width, len(_LINES) * _LINE_SLOTS)
        self.patches = nn.Linear(width, len(_LINES) + len(_KINDS))

    def loss(self, tokens: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the weighted sum of the losses of all facts.

        Args:
            tokens: float (B, 64, width), the projected image tokens, row by row.
            batch: The batch, with the ground truth.
        """
        tokens = tokens.float()
        side = math.isqrt(tokens.shape[1])
        grid = tokens.transpose(1, 2).unflatten(2, (side, side))
        pooled = functional.adaptive_avg_pool2d(grid, 3).flatten(2).transpose(1, 2)
        total = torch.zeros((), device=tokens.device)
        for index, scores in enumerate(self.cells(pooled).split(_CELL_CLASSES, dim=-1)):
            total = total + functional.cross_entropy(
                scores.flatten(0, 1), batch.cells[..., index].flatten()
            )
        sizes = (len(_COVERS), len(_SIDES) + 1)
        cover, water = self.whole(tokens.mean(dim=1)).split(sizes, dim=-1)
        total = total + functional.cross_entropy(cover, batch.covers)
        total = total + functional.cross_entropy(water, batch.sides)
        lines = functional.binary_cross_entropy_with_logits(
            self.lines(pooled.flatten(1)), batch.lines
        )
        patches = functional.binary_cross_entropy_with_logits(self.patches(tokens), batch.patches)
        # Nearly all targets of these two losses are zero, so the losses are small. The factors make
        # the losses larger.
        return total + 10.0 * lines + 20.0 * patches


def model_pixels(image: Image.Image) -> npt.NDArray[np.float32]:
    """Return the model's input for an image: float32 (3, 112, 112), resized and normalised.

    The result is the same as from the ``CLIPImageProcessor`` of the checkpoint. The function does
    not crop the image, because all tiles of this package are square.
    """
    if image.size != (IMAGE_PX, IMAGE_PX):
        image = image.resize((IMAGE_PX, IMAGE_PX), Image.Resampling.BICUBIC)
    values = np.asarray(image, dtype=np.float32) / np.float32(255.0)
    mean, std = np.asarray(IMAGE_MEAN, np.float32), np.asarray(IMAGE_STD, np.float32)
    return np.ascontiguousarray(((values - mean) / std).transpose(2, 0, 1))


def shipped_image(scene: Scene, size_px: int = 224, quality: int = 90) -> Image.Image:
    """Return the image of a scene as a shard contains it, which is a decoded JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(render(scene, size_px)).save(buffer, format="JPEG", quality=quality)
    buffer.seek(0)
    return Image.open(buffer).convert("RGB")


def make_batch(seeds: range, tokenizer: Tokenizer) -> Batch:
    """Draw and describe the scenes of some seeds."""
    scenes = [make_scene(seed) for seed in seeds]
    # Make a quarter of the images like the images in shards (compressed and then resized). The
    # model then also learns to describe these images.
    pixels = [
        model_pixels(
            shipped_image(scene) if index % 4 == 0 else Image.fromarray(render(scene, IMAGE_PX))
        )
        for index, scene in enumerate(scenes)
    ]
    texts = [
        target_text(describe(scene, np.random.default_rng((scene.seed, 5)))) for scene in scenes
    ]
    end, padding = token_id(tokenizer, EOS), token_id(tokenizer, PAD)
    ids = [[*tokenizer.encode(text, add_special_tokens=False).ids, end] for text in texts]
    longest = max(len(row) for row in ids)
    targets = torch.full((len(ids), longest), padding)
    for index, row in enumerate(ids):
        targets[index, : len(row)] = torch.tensor(row)
    facts = [_facts(scene) for scene in scenes]
    return Batch(
        pixels=torch.from_numpy(np.stack(pixels)),
        targets=targets,
        is_target=targets != padding,
        cells=torch.from_numpy(np.stack([fact[0] for fact in facts])),
        covers=torch.tensor([_COVERS.index(scene.land_cover) for scene in scenes]),
        sides=torch.tensor(
            [
                _SIDES.index(scene.water_side) if scene.water_side else len(_SIDES)
                for scene in scenes
            ]
        ),
        lines=torch.from_numpy(np.stack([fact[1] for fact in facts])),
        patches=torch.from_numpy(np.stack([_patches(scene) for scene in scenes])),
    )


def _facts(scene: Scene) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    cells = np.zeros((len(POSITIONS), len(_CELL_CLASSES)), dtype=np.int64)
    for group in scene.objects:
        column, row = POSITIONS[group.position]
        size = 1 if group.size == "small" else 2
        cells[row * 3 + column] = (
            _KINDS.index(group.kind) + 1,
            group.count,
            size,
            ARRANGEMENTS.index(group.arrangement) + 1,
        )
    lines = np.zeros((len(_LINES), len(ORIENTATIONS), 3), dtype=np.float32)
    for line in scene.linear_features:
        passing = 1 if line.position == "centre" else 0 if line.offset < 0 else 2
        lines[_LINES.index(line.kind), list(ORIENTATIONS).index(line.orientation), passing] = 1.0
    return cells, lines.reshape(-1)


def _patches(scene: Scene) -> npt.NDArray[np.float32]:
    side = math.isqrt(NUM_IMAGE_TOKENS)
    marked = np.zeros((side, side, len(_LINES) + len(_KINDS)), dtype=np.float32)
    for line, path in zip(scene.linear_features, line_paths(scene), strict=True):
        inside = path[((path >= 0.0) & (path < 1.0)).all(axis=1)]
        columns, rows = (inside * side).astype(np.int64).T
        marked[rows, columns, _LINES.index(line.kind)] = 1.0
    for group, (points, _) in zip(scene.objects, group_places(scene), strict=True):
        for x, y in points:
            column, row = (min(max(int(part * side), 0), side - 1) for part in (x, y))
            marked[row, column, len(_LINES) + _KINDS.index(group.kind)] = 1.0
    return marked.reshape(NUM_IMAGE_TOKENS, -1)


def prompt_ids(tokenizer: Tokenizer) -> list[int]:
    """Return the token ids of the training prompt, with the image token repeated 64 times."""
    image = token_id(tokenizer, IMAGE)
    ids: list[int] = tokenizer.encode(prompt_text(), add_special_tokens=False).ids
    at = ids.index(image)
    if ids[0] != token_id(tokenizer, BOS):
        raise ValueError("the prompt must begin with the begin-of-sequence token")
    return [*ids[:at], *[image] * NUM_IMAGE_TOKENS, *ids[at + 1 :]]


def fact_loss(
    model: LlavaForConditionalGeneration,
    head: AuxiliaryHead,
    batch: Batch,
    *,
    vision_tower: Callable[..., Any] | None = None,
) -> torch.Tensor:
    """Return the loss of the auxiliary head. The text model is not used."""
    tower = model.model.vision_tower if vision_tower is None else vision_tower
    vision = tower(batch.pixels, output_hidden_states=True)
    return head.loss(model.model.multi_modal_projector(vision.hidden_states[-2][:, 1:]), batch)


def text_and_fact_loss(
    model: LlavaForConditionalGeneration,
    head: AuxiliaryHead,
    prompt: torch.Tensor,
    batch: Batch,
    *,
    vision_tower: Callable[..., Any] | None = None,
    language_model: Callable[..., Any] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss of the text model on the target tokens, and the loss of the auxiliary head.

    All images of the batch have the same prompt, so the image tokens are inserted directly. The
    padding is on the right, and a causal model ignores later tokens, so no attention mask is
    needed.

    Args:
        model: The network.
        head: The auxiliary head.
        prompt: int64 (1, P), with the image token repeated ``NUM_IMAGE_TOKENS`` times.
        batch: Images and targets.
        vision_tower: The compiled vision tower. If None, the vision tower of ``model`` is used.
        language_model: The compiled text model. If None, the text model of ``model`` is used.
    """
    inner = model.model
    vision_tower = inner.vision_tower if vision_tower is None else vision_tower
    language_model = inner.language_model if language_model is None else language_model
    image_at = int((prompt[0] == model.config.image_token_id).nonzero()[0])
    vision = vision_tower(batch.pixels, output_hidden_states=True)
    image = inner.multi_modal_projector(vision.hidden_states[-2][:, 1:])
    embed = inner.language_model.embed_tokens
    words = embed(prompt).expand(len(batch.pixels), -1, -1)
    inputs = torch.cat(
        [
            words[:, :image_at],
            image.to(words.dtype),
            words[:, image_at + NUM_IMAGE_TOKENS :],
            embed(batch.targets[:, :-1]),
        ],
        dim=1,
    )
    hidden = language_model(inputs_embeds=inputs, use_cache=False).last_hidden_state
    # The output at the last token of the prompt predicts the first target token.
    wanted = hidden[:, prompt.shape[1] - 1 :][batch.is_target]
    text = functional.cross_entropy(model.lm_head(wanted).float(), batch.targets[batch.is_target])
    return text, head.loss(image, batch)


def score_held_out(
    model: LlavaForConditionalGeneration,
    tokenizer: Tokenizer,
    *,
    num_scenes: int,
    device: str = "cpu",
    first_seed: int = HELD_OUT_SEED,
    batch_size: int = 32,
) -> ScoreSummary:
    """Describe held-out scenes with greedy decoding, and score the descriptions."""
    prompt = torch.tensor([prompt_ids(tokenizer)], device=device)
    scores, num_invalid = [], 0
    model.eval()
    for start in range(0, num_scenes, batch_size):
        scenes = [
            make_scene(first_seed + index)
            for index in range(start, min(start + batch_size, num_scenes))
        ]
        pixels = np.stack([model_pixels(shipped_image(scene)) for scene in scenes])
        ids = prompt.expand(len(scenes), -1)
        with torch.no_grad(), torch.autocast(device, dtype=torch.bfloat16):
            written = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=torch.from_numpy(pixels).to(device),
                max_new_tokens=_MAX_NEW_TOKENS,
                do_sample=False,
            )
        for scene, row in zip(scenes, written[:, ids.shape[1] :].tolist(), strict=True):
            description = parse_description(tokenizer.decode(row, skip_special_tokens=True))
            if description is None:
                num_invalid += 1
            else:
                scores.append(score_description(scene, description))
    model.train()
    return summarise(scores, num_invalid=num_invalid)


def _is_before(record: dict[str, Any], step: int) -> bool:
    happened: int = record["step"]
    return happened <= step if "scores" in record else happened < step


def parse_description(text: str) -> dict[str, str] | None:
    """Return the description in a text, or None if the text is not exactly one description."""
    try:
        value: Any = json.loads(text)
    except json.JSONDecodeError:
        return None
    if not isinstance(value, dict) or tuple(value) != FIELDS:
        return None
    if not all(isinstance(part, str) for part in value.values()):
        return None
    return value


class Trainer:
    """One training run.

    The folder of the run contains the state, the log, the plot and the checkpoint.
    """

    def __init__(self, out: Path, recipe: Recipe, *, device: str = "cpu") -> None:
        self.out = out
        self.recipe = recipe
        self.device = device
        out.mkdir(parents=True, exist_ok=True)
        stored = out / "tokenizer.json"
        if stored.exists():
            self.tokenizer = Tokenizer.from_file(str(stored))
        else:
            self.tokenizer = train_tokenizer(recipe.num_tokenizer_scenes)
            self.tokenizer.save(str(stored))
        torch.manual_seed(recipe.seed)
        self.model = LlavaForConditionalGeneration(build_config(recipe.shape, self.tokenizer))
        self.model.generation_config.eos_token_id = token_id(self.tokenizer, EOS)
        self.model.generation_config.pad_token_id = token_id(self.tokenizer, PAD)
        self.head = AuxiliaryHead(recipe.shape.text_width)
        if device == "cpu":
            # Do not use torch's fused attention on a CPU, because its backward pass is slow. A step
            # would take 2.2 s instead of 1.8 s.
            self.model.set_attn_implementation("eager")
        self.model.to(device).train()
        self.head.to(device)
        parameters = [*self.model.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.05},
                {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=recipe.learning_rate,
            betas=(0.9, 0.98),
            fused=True,
        )
        # Keep the compiled modules separate from the model, because generation uses the uncompiled
        # modules.
        self._vision_tower: Callable[..., Any] = self.model.model.vision_tower
        self._language_model: Callable[..., Any] = self.model.model.language_model
        if recipe.compiled:
            self._vision_tower = torch.compile(self._vision_tower, dynamic=False)
            self._language_model = torch.compile(self._language_model, dynamic=True)
        self.step = 0
        self.trained_s = 0.0
        # The step in which the training of the text model started. None if this training has not
        # started.
        self.text_from: int | None = None

    def resume(self) -> bool:
        """Continue from ``state.pt``. Return False if this file does not exist."""
        path = self.out / "state.pt"
        if not path.exists():
            return False
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.trained_s = state["step"], state["trained_s"]
        self.text_from = state["text_from"]
        self._forget_lost_steps()
        return True

    def _forget_lost_steps(self) -> None:
        """Remove the steps after the stored state from the log. These steps will be repeated."""
        log = self.out / "log.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        # Keep scores that have the step number of the stored state, because they were computed
        # after this step. Remove the loss with this step number, because it belongs to the next
        # step.
        kept = [line for line in lines if _is_before(json.loads(line), self.step)]
        log.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def save(self) -> None:
        """Write the current checkpoint, and the state from which a run can be resumed."""
        state = {
            "model": self.model.state_dict(),
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "trained_s": self.trained_s,
            "text_from": self.text_from,
        }
        torch.save(state, self.out / "state.pt.part")
        os.replace(self.out / "state.pt.part", self.out / "state.pt")
        save_checkpoint(self.out / "checkpoint", self.model, self.tokenizer)

    def progress(self) -> float:
        """Return the finished share of the schedule, from 0 to 1."""
        if self.recipe.steps is not None:
            return min(self.step / self.recipe.steps, 1.0)
        return min(self.trained_s / (60.0 * self.recipe.minutes), 1.0)

    def learning_rate(self) -> float:
        """Return the learning rate of the next step.

        During the warm-up, the rate depends only on the number of steps. Therefore the first steps
        are reproducible even if the schedule is in minutes.
        """
        # When the training of the text model starts, there is a second warm-up.
        taken = self.step if self.text_from is None else self.step - self.text_from
        warm = min(1.0, (taken + 1) / _WARMUP_STEPS)
        cosine = 0.5 * (1.0 + math.cos(math.pi * self.progress()))
        if self.step < _WARMUP_STEPS:
            cosine = 1.0
        return self.recipe.learning_rate * warm * (0.02 + 0.98 * cosine)

    def train(self) -> list[float]:
        """Train to the end of the schedule, and return the loss of every step.

        Until the training of the text model starts, this is the loss of the facts. After that, this
        is the loss of the text.
        """
        prompt = torch.tensor([prompt_ids(self.tokenizer)], device=self.device)
        losses: list[float] = []
        while self.progress() < 1.0:
            began_s = time.monotonic()
            if self.text_from is None and self.progress() >= self.recipe.facts_share:
                self.text_from = self.step
            losses.append(self._one_step(prompt))
            self.step += 1
            self.trained_s += time.monotonic() - began_s
            if self.step % self.recipe.save_every == 0:
                self.save()
            # Do not score an untrained text model, because it would always generate texts of the
            # maximum length.
            if self.text_from is not None and self.step % self.recipe.score_every == 0:
                self.score()
        self.save()
        self.score()
        return losses

    def score(self) -> ScoreSummary:
        """Score the model on held-out scenes, write the scores to the log, and plot the log."""
        summary = score_held_out(
            self.model, self.tokenizer, num_scenes=self.recipe.num_scored, device=self.device
        )
        self._log({"scores": dataclasses.asdict(summary)})
        write_plot(self.out)
        return summary

    def _one_step(self, prompt: torch.Tensor) -> float:
        size = self.recipe.batch_size
        # Runs with different seeds start with different scenes. All training scenes have seeds
        # below the held-out seeds.
        first = (self.recipe.seed * 10_000_019 + self.step * size) % (HELD_OUT_SEED - size)
        batch = make_batch(range(first, first + size), self.tokenizer).to(self.device)
        drawn_s = time.monotonic()
        rate = self.learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(self.device, dtype=torch.bfloat16):
            if self.text_from is None:
                text = None
                facts = fact_loss(self.model, self.head, batch, vision_tower=self._vision_tower)
            else:
                text, facts = text_and_fact_loss(
                    self.model,
                    self.head,
                    prompt,
                    batch,
                    vision_tower=self._vision_tower,
                    language_model=self._language_model,
                )
        whole = _AUXILIARY_WEIGHT * facts if text is None else text + _AUXILIARY_WEIGHT * facts
        self.optimizer.zero_grad(set_to_none=True)
        whole.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        losses = {"facts_loss": float(facts.detach())}
        if text is not None:
            losses["loss"] = float(text.detach())
        self._log(
            {
                **losses,
                "learning_rate": round(rate, 8),
                "model_s": round(time.monotonic() - drawn_s, 4),
            }
        )
        return losses.get("loss", losses["facts_loss"])

    def _log(self, values: dict[str, Any]) -> None:
        record = {"step": self.step, "trained_s": round(self.trained_s, 2), **values}
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")
        if "scores" in values or self.step % 50 == 0:
            logger.info("%s", json.dumps(record))


def main(
    out: Annotated[
        Path, typer.Option(help="Folder for the state, the log, the plot and the checkpoint.")
    ],
    minutes: Annotated[
        float, typer.Option(help="Minutes of training. Ignored if --steps is given.")
    ] = 60.0,
    steps: Annotated[int | None, typer.Option(help="Number of training steps.")] = None,
    threads: Annotated[
        int, typer.Option(help="Number of CPU threads. Results are reproducible only with 1.")
    ] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    seed: Annotated[
        int, typer.Option(help="Seed for the weights and for the training scenes.")
    ] = 0,
    batch_size: Annotated[int, typer.Option(help="Scenes per step.")] = 64,
    compiled: Annotated[bool, typer.Option(help="Compile the network.")] = False,
    resume: Annotated[bool, typer.Option(help="Continue the existing run in the folder.")] = False,
) -> None:
    """Train the demonstration checkpoint from scratch on generated scenes."""
    if device not in ("cpu", "cuda"):
        raise typer.BadParameter(f"--device must be cpu or cuda, not {device!r}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(threads)
    recipe = Recipe(
        seed=seed, steps=steps, minutes=minutes, batch_size=batch_size, compiled=compiled
    )
    if (out / "state.pt").exists() and not resume:
        raise typer.BadParameter(
            f"{out} already contains a run: add --resume to continue this run, or use a "
            "different folder"
        )
    trainer = Trainer(out, recipe, device=device)
    if resume and trainer.resume():
        typer.echo(f"training continues after step {trainer.step}")
    num_parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    typer.echo(f"{num_parameters:,} parameters")
    trainer.train()
    typer.echo(f"{trainer.step} steps; the checkpoint is in {out / 'checkpoint'}")


if __name__ == "__main__":
    typer.run(main)
