"""Fine-tuning without golden files: formulas, filters, and a course that is broken off and goes on."""

from __future__ import annotations

import math
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from appliance.engine.gpt_sovits.discriminator import Discriminator  # noqa: E402
from appliance.engine.gpt_sovits.sovits import Synthesizer, SynthesizerConfig  # noqa: E402
from appliance.engine.gpt_sovits.t2s import TextPrompt, TextToSemantic, TextToSemanticConfig  # noqa: E402
from appliance.engine.gpt_sovits.training import clips, courses, losses, plans, practice  # noqa: E402
from appliance.engine.gpt_sovits.training.draws import STREAMS, drawing_from, generator_of  # noqa: E402
from appliance.engine.gpt_sovits.training.optimisers import (  # noqa: E402
    ScaledAdam,
    ScaledAdamSettings,
    SoundRates,
    adamw_of_generator,
)
from appliance.engine.gpt_sovits.training.sound_steps import SLICE_FRAMES, Draws  # noqa: E402
from appliance.engine.gpt_sovits.training.token_steps import TokenLesson, spoil_tokens, token_losses  # noqa: E402
from appliance.errors import Conflict, Corrupt  # noqa: E402

SMALL = TextToSemanticConfig(phonemes=40, vocabulary=33, width=16, heads=2, layers=2, end=32)
SMALL_SOUND = SynthesizerConfig(
    inter_channels=8,
    hidden_channels=8,
    filter_channels=16,
    n_layers=2,
    upsample_initial_channel=32,
    gin_channels=8,
    symbols=40,
    ssl_width=12,
    codes=16,
    style_width=8,
    mixer_width=8,
    posterior_layers=2,
    has_posterior=True,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random_network(network: Any) -> Any:
    """Small random weights everywhere, the same each time."""
    generator = torch.Generator().manual_seed(5)
    for tensor in [*network.parameters(), *network.buffers()]:
        if tensor.is_floating_point():
            tensor.data = 0.3 * torch.randn(tensor.shape, generator=generator)
    return network


def features(number: int, seconds: float = 1.0, ssl_width: int = 12) -> dict[str, Any]:
    """A clip: a tone whose phones and tokens go with its number."""
    generator = torch.Generator().manual_seed(number)
    frames, phones = int(seconds * 50), int(seconds * 10)
    time_s = torch.arange(int(seconds * 32_000)) / 32_000
    return {
        "phones": torch.randint(1, 40, (phones,), generator=generator),
        "bert": torch.randn(1024, phones, generator=generator).half(),
        "tokens": torch.randint(0, 32, (frames // 2,), generator=generator),
        "ssl": torch.randn(ssl_width, frames - 1, generator=generator),
        "waveform": 0.3 * torch.sin(2 * math.pi * (100 + 20 * number) * time_s),
    }


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    found = [tmp_path / f"clip{number}.safetensors" for number in range(6)]
    for number, path in enumerate(found):
        clips.write_clip(path, features(number, 1.0 + 0.1 * number))
    return found


def rhythm(updates: int = 6, **others: int) -> plans.Rhythm:
    return plans.Rhythm(**{"updates": updates, "save_every": 2, "measure_every": 3, "patience": 9, **others})


def token_course(paths: list[Path], **others: Any) -> courses.TokenCourse:
    plan = plans.TokenPlan(rhythm(), batch=2, accumulation=2, **others)
    return courses.TokenCourse(random_network(TextToSemantic(SMALL)), paths[:5], paths[5:], plan, seed=7)


def same(left: dict[str, Any], right: dict[str, Any]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


class TestLosses:
    def test_preference_follows_its_formula(self) -> None:
        generator = torch.Generator().manual_seed(1)
        chosen, rejected = (torch.randn(2, rows, 4, generator=generator, dtype=torch.float64) for rows in (3, 5))
        right, wrong = torch.tensor([[0, 1, 3], [2, 2, 3]]), torch.tensor([[0, 0, 1, 1, 3], [2, 3, 3, 3, 3]])
        wanted = 0.0
        for item in range(2):
            likely = [
                sum(float(rows[item, r, t] - rows[item, r].exp().sum().log()) for r, t in enumerate(ids[item].tolist()))
                for rows, ids in ((chosen, right), (rejected, wrong))
            ]
            wanted += math.log1p(math.exp(-0.2 * (likely[0] - likely[1]))) / 2
        found = losses.preference_loss(losses.Prediction(chosen, right), losses.Prediction(rejected, wrong))
        assert float(found) == pytest.approx(wanted, rel=1e-5)
        assert wanted > 0.05

    def test_accuracy_leaves_ends_out(self) -> None:
        logits = torch.tensor([[[9.0, 8, 7, 0, 0], [9, 8, 7, 0, 0], [9, 8, 7, 0, 0]]])
        said = losses.Prediction(logits, torch.tensor([[2, 3, 4]]))
        assert losses.top_accuracy(said, end=4) == pytest.approx(0.5)

    def test_preferring_raises_the_total(self, paths: list[Path]) -> None:
        network = random_network(TextToSemantic(SMALL)).requires_grad_(False)
        items = [clips.read_prompt(path) for path in paths[:2]]
        found = token_losses(network, TokenLesson.of_items(items, [item.tokens.flip(0) for item in items]))
        assert float(found.total) == pytest.approx(float(found.cross_entropy + found.preference))
        assert float(found.preference) > 0


class TestScaledAdam:
    def test_a_single_number_stays_in_bounds(self) -> None:
        scalar = torch.nn.Parameter(torch.tensor([10.5]))
        optimiser = ScaledAdam([scalar], ScaledAdamSettings(lr=0.1))
        scalar.grad = torch.tensor([1.0])
        optimiser.step()
        assert float(scalar.detach()) == pytest.approx(10.0 - 0.1 * 0.1 * 0.1)

    def test_what_is_too_large_shrinks(self) -> None:
        sizes = []
        for start in (1.0, 10.0):
            weight = torch.nn.Parameter(torch.full((8,), start))
            optimiser = ScaledAdam([weight], ScaledAdamSettings(lr=0.05))
            for _ in range(16):
                weight.grad = torch.zeros(8)
                optimiser.step()
            sizes.append(float(weight.detach().square().mean().sqrt()) / start)
        assert sizes[0] == 1.0
        assert sizes[1] < 0.99

    def test_an_outlier_counts_less_for_the_scale_once_the_median_is_known(self) -> None:
        moved = []
        for clip in (2.0, 1e9):
            weight = torch.nn.Parameter(torch.ones(4))
            optimiser = ScaledAdam([weight], ScaledAdamSettings(clip=clip, clip_period=4))
            for step in range(8):
                weight.grad = torch.full((4,), 100.0 if step == 6 else 1.0)
                optimiser.step()
            moved.append(float(optimiser.state[weight]["scale_gradients"][2]))
        assert moved[0] < 0.05 * moved[1]

    def test_it_goes_on_from_its_state(self) -> None:
        def run(stops: set[int]) -> Any:
            weight = torch.nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4))
            optimiser = ScaledAdam([weight], ScaledAdamSettings(clip_period=5))
            for step in range(17):
                if step in stops:
                    state = optimiser.state_dict()
                    optimiser = ScaledAdam([weight])
                    optimiser.load_state_dict(state)
                weight.grad = torch.sin(weight.detach() * (step + 1))
                optimiser.step()
            return weight.detach()

        assert torch.equal(run(set()), run({1, 6, 11}))


def test_what_s2_knows_of_text_learns_slowly() -> None:
    network = Synthesizer(SMALL_SOUND)
    groups = adamw_of_generator(network, SoundRates(lr=1.0, text_share=0.4)).param_groups
    assert [group["lr"] for group in groups] == [1.0, 0.4, 0.4, 0.4]
    members = [{id(p) for p in group["params"]} for group in groups]
    assert sum(map(len, members)) == len(list(network.parameters()))
    for part, ids in zip(("text_embedding", "encoder_text", "mrte"), members[1:], strict=True):
        assert ids == {id(p) for p in network.enc_p.get_submodule(part).parameters()}


class TestDraws:
    def test_streams_differ_and_repeat(self) -> None:
        seen = {
            float(torch.rand(1, generator=generator_of(seed, step, stream)))
            for seed in (0, 1)
            for step in (0, 1, 2)
            for stream in STREAMS
        }
        assert len(seen) == 2 * 3 * len(STREAMS)

    def test_the_outer_generator_is_left_alone(self) -> None:
        torch.manual_seed(3)
        wanted = torch.rand(2)
        torch.manual_seed(3)
        first = torch.rand(1)
        with drawing_from(1, 2):
            inner = torch.rand(1)
        assert torch.equal(torch.cat((first, torch.rand(1))), wanted)
        with drawing_from(1, 2):
            assert torch.equal(torch.rand(1), inner)

    def test_slices_lie_inside_their_clips(self) -> None:
        frames = torch.tensor([SLICE_FRAMES - 2, SLICE_FRAMES, SLICE_FRAMES + 9, SLICE_FRAMES + 9])
        draws = Draws.of(torch.zeros(4, 1, 50), torch.tensor([0.99, 0.99, 0.0, 0.999999]), frames)
        assert draws.starts.tolist() == [0, 0, 0, 9]

    def test_spoilt_answers(self) -> None:
        tokens = torch.arange(20)
        found = [spoil_tokens(tokens, generator_of(1, step, "spoil")).tolist() for step in range(200)]
        longer, shorter = ([f for f in found if len(f) > 20], [f for f in found if len(f) < 20])
        assert len(longer) > 50
        assert len(shorter) > 50
        for answer in longer:
            repeated = len(answer) - 20
            starts = [s for s in range(21 - repeated) if answer == [*range(s + repeated), *range(s, 20)]]
            assert len(starts) == 1
        assert all(answer == sorted(set(answer)) and answer for answer in shorter)
        assert spoil_tokens(tokens, generator_of(1, 4, "spoil")).tolist() == found[4]


class TestPlans:
    def test_one_minute(self) -> None:
        plan = plans.plan_training(1.0, 12)
        assert (plan.sound.batch, plan.tokens.batch) == (2, 2)
        assert plan.sound.rhythm.updates == 8 * 96 // 2 // 4
        assert plan.tokens.rhythm.updates == 15 * 96 // 8 // 4
        assert plans.plan_training(1.0, 12, is_gpu=True).sound.rhythm.updates == 8 * 96 // 8

    @pytest.mark.parametrize("is_gpu", [False, True])
    def test_more_speech_is_never_trained_less(self, is_gpu: bool) -> None:
        amounts = [plans.plan_training(m, int(12 * m), is_gpu=is_gpu).sound.rhythm.updates for m in (10, 20, 60, 200)]
        assert amounts == sorted(amounts)

    @pytest.mark.parametrize(("minutes", "count"), [(0.0, 3), (1.0, 0), (math.nan, 3)])
    def test_nothing_to_train_on(self, minutes: float, count: int) -> None:
        with pytest.raises(ValueError, match="at least one clip"):
            plans.plan_training(minutes, count)


class TestClips:
    def test_a_batch(self, paths: list[Path]) -> None:
        batch = clips.read_sound_lesson([paths[0], paths[5]], is_pro=False)
        assert batch.lesson.frames.tolist() == [50, 75]
        assert batch.lesson.ssl.shape == (2, 12, 76)
        assert batch.lesson.spectrogram.shape == (2, 1025, 76)
        assert batch.waveform.shape == (2, 1, 76 * 640)
        assert torch.equal(batch.lesson.ssl[0, :, 49], batch.lesson.ssl[0, :, 48])
        assert float(batch.waveform[0, 0, 50 * 640 :].abs().max()) == 0.0

    def test_short_clips_fill_a_slice(self, tmp_path: Path) -> None:
        clips.write_clip(tmp_path / "a.safetensors", features(1, 0.4))
        assert clips.read_sound_lesson([tmp_path / "a.safetensors"], is_pro=False).lesson.ssl.shape[2] == SLICE_FRAMES

    @pytest.mark.parametrize("flaw", ["missing", "not a number", "cut", "absent", "lengths"])
    def test_broken_features(self, paths: list[Path], flaw: str) -> None:
        path, found = paths[0], features(0)
        if flaw == "missing":
            del found["bert"]
        elif flaw == "not a number":
            found["bert"][3, 3] = math.nan
        elif flaw == "lengths":
            found["bert"] = found["bert"][:, :-1]
        clips.write_clip(path, found)
        if flaw == "cut":
            path.write_bytes(path.read_bytes()[:5000])
        if flaw == "absent":
            path.unlink()
        with pytest.raises(Corrupt) as caught:
            clips.read_prompt(path)
        assert caught.value.code == "training_clip_wrong"
        assert path.name in caught.value.message("zh")

    @pytest.mark.parametrize(
        ("seconds", "phones", "fault"),
        [(1.0, 10, ""), (0.5, 5, "clip_length"), (1.0, 2, "clip_pace"), (1.0, 26, "clip_pace")],
    )
    def test_filters(self, tmp_path: Path, seconds: float, phones: int, fault: str) -> None:
        clips.write_clip(tmp_path / "a", {**features(1, seconds), "phones": torch.ones(phones, dtype=torch.long)})
        assert clips.fault_of(tmp_path / "a") == fault

    def test_held_out(self, paths: list[Path]) -> None:
        taught, held = clips.hold_out(paths, 0.1, generator_of(1, 0, "order"))
        assert (len(taught), len(held)) == (5, 1)
        assert {*taught, *held} == {*paths}
        assert clips.hold_out(paths[:4], 0.1, generator_of(1, 0, "order")) == (paths[:4], [])

    def test_an_empty_item_is_refused(self) -> None:
        empty = TextPrompt(torch.ones(2, dtype=torch.long), torch.zeros(1024, 2), torch.empty(0, dtype=torch.long))
        with pytest.raises(ValueError, match="phones and tokens"):
            TokenLesson.of_items([empty])


class BreakOff(Exception):
    pass


class TestPractice:
    def test_it_learns(self, paths: list[Path], tmp_path: Path) -> None:
        course = token_course(paths, dropout=0.0, optimiser=ScaledAdamSettings(lr=0.02))
        seen: list[float] = []
        done = practice.practise(
            course,
            tmp_path / "run",
            rhythm(60, patience=99),
            "f",
            lambda report: seen.append(report.measures["cross_entropy"]),
        )
        assert (done.done, done.is_over) == (60, True)
        assert sum(seen[-5:]) < 0.9 * sum(seen[:5])

    @pytest.mark.parametrize("breaks", [[1], [2], [3, 5], [1, 2, 3, 4, 5]])
    @pytest.mark.parametrize("is_preferring", [False, True])
    def test_broken_off_it_ends_the_same(
        self, paths: list[Path], tmp_path: Path, breaks: list[int], is_preferring: bool
    ) -> None:
        whole = token_course(paths, is_preferring=is_preferring)
        practice.practise(whole, tmp_path / "whole", rhythm(), "f", lambda report: None)
        for moment in [*breaks, 0]:
            course = token_course(paths, is_preferring=is_preferring)
            try:
                practice.practise(course, tmp_path / "broken", rhythm(), "f", partial(stop_at, moment))
            except BreakOff:
                continue
        assert same(course.network.state_dict(), whole.network.state_dict())
        best = [load_file(tmp_path / name / practice.BEST) for name in ("whole", "broken")]
        assert same(*best)

    def test_s2_broken_off_ends_the_same(self, paths: list[Path], tmp_path: Path) -> None:
        plan = plans.SoundPlan(rhythm(2, save_every=1, measure_every=2), batch=1, decay=0.5, epoch=1)
        final = []
        for breaks in ([0], [1, 0]):
            for moment in breaks:
                networks = random_network(Synthesizer(SMALL_SOUND)), random_network(Discriminator((2,)))
                course = courses.SoundCourse.of(networks, paths[:5], paths[5:], plan, seed=7)
                folder = tmp_path / f"run{len(breaks)}"
                try:
                    practice.practise(course, folder, plan.rhythm, "f", partial(stop_at, moment))
                except BreakOff:
                    continue
            final.append(course)
        assert same(final[0].learners.network.state_dict(), final[1].learners.network.state_dict())
        assert same(final[0].learners.judges.state_dict(), final[1].learners.judges.state_dict())
        rates = [group["lr"] for group in final[1].learners.optimiser.param_groups]
        assert rates == pytest.approx([0.5e-4, 0.2e-4, 0.2e-4, 0.2e-4])
        start = random_network(Synthesizer(SMALL_SOUND)).state_dict()
        assert not torch.equal(start["dec.conv_pre.weight"], final[0].learners.network.dec.conv_pre.weight)
        assert torch.equal(start["ssl_proj.weight"], final[0].learners.network.ssl_proj.weight)

    def test_no_progress_ends_it_and_the_best_is_kept(self, paths: list[Path], tmp_path: Path) -> None:
        course = token_course(paths)
        measured = iter([5.0, 3.0, 4.0, 4.0])
        course.measure = lambda: next(measured)  # type: ignore[method-assign]
        kept = []
        done = practice.practise(
            course,
            tmp_path,
            rhythm(100, measure_every=1, patience=2),
            "f",
            lambda report: kept.append({n: t.clone() for n, t in course.network.state_dict().items()}),
        )
        assert (done.done, done.best, done.best_at) == (4, 3.0, 2)
        assert same(load_file(tmp_path / practice.BEST), kept[1])

    def test_another_training_is_not_continued(self, paths: list[Path], tmp_path: Path) -> None:
        practice.practise(token_course(paths), tmp_path, rhythm(2), "one", lambda report: None)
        with pytest.raises(Conflict) as caught:
            practice.practise(token_course(paths), tmp_path, rhythm(2), "two", lambda report: None)
        assert caught.value.code == "training_checkpoint_other"

    @pytest.mark.parametrize("flaw", ["cut", "empty", "other"])
    def test_a_broken_checkpoint_is_named(self, paths: list[Path], tmp_path: Path, flaw: str) -> None:
        practice.practise(token_course(paths), tmp_path, rhythm(2), "f", lambda report: None)
        path = tmp_path / practice.CHECKPOINT
        path.write_bytes({"cut": path.read_bytes()[:4000], "empty": b"", "other": b"hello" * 99}[flaw])
        with pytest.raises(Corrupt) as caught:
            practice.practise(token_course(paths), tmp_path, rhythm(2), "f", lambda report: None)
        assert caught.value.code == "training_checkpoint_broken"

    def test_a_full_disk_leaves_the_last_checkpoint_and_goes_on(self, paths: list[Path], tmp_path: Path) -> None:
        """The kernel refuses to write more than so many bytes: the same error in the same place as a full disk."""
        course = token_course(paths)
        practice.practise(course, tmp_path / "whole", rhythm(6), "f", lambda report: None)
        size = (tmp_path / "whole" / practice.CHECKPOINT).stat().st_size
        command = [sys.executable, __file__, "--full", str(size // 2), str(tmp_path / "full"), "6", *map(str, paths)]
        refused = subprocess.run(command, capture_output=True, text=True, timeout=100, env=ONE_THREAD)
        assert (refused.returncode, "OSError" in refused.stderr) == (1, True), refused.stderr
        left = {path.name for path in (tmp_path / "full").iterdir()}
        assert left <= {practice.BEST}
        resumed = token_course(paths)
        practice.practise(resumed, tmp_path / "full", rhythm(6), "f", lambda report: None)
        assert same(resumed.network.state_dict(), course.network.state_dict())

    def test_killed_it_ends_the_same(self, paths: list[Path], tmp_path: Path) -> None:
        """kill -9 at random moments; VOICED_TEST_KILLS says how often."""
        kills = int(os.environ.get("VOICED_TEST_KILLS", "2"))
        updates = 20 * (kills + 1)  # more than are done between two kills
        course = token_course(paths)
        practice.practise(course, tmp_path / "whole", rhythm(updates), "f", lambda report: None)
        command = [sys.executable, __file__, str(tmp_path / "killed"), str(updates), *map(str, paths)]
        chance = random.Random(3)
        for _ in range(kills):
            assert kill_soon(command, chance.random() * 0.4) == -signal.SIGKILL
        subprocess.run(command, check=True, timeout=100, env={**os.environ, "OMP_NUM_THREADS": "1"})
        found = torch.load(tmp_path / "killed" / practice.CHECKPOINT, weights_only=True)
        assert found["standing"]["is_over"]
        assert same(found["course"]["network"], course.network.state_dict())


ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def stop_at(moment: int, report: practice.Report) -> None:
    if report.standing.done == moment:
        raise BreakOff


def kill_soon(command: list[str], delay_s: float) -> int:
    """Start, wait for the first update and a little more, kill; gives how the process ended."""
    slow = [*command[:2], "--slowly", *command[2:]]
    with subprocess.Popen(slow, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}) as child:
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(delay_s)
        child.send_signal(signal.SIGKILL)
        return child.wait(10)


def main(words: list[str]) -> None:
    if words[0] == "--full":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(words[1]), int(words[1])))
        words = words[2:]
    is_slow = words[0] == "--slowly"
    folder, updates, *paths = words[1:] if is_slow else words
    torch.set_num_threads(1)

    def listen(report: practice.Report) -> None:
        print(report.standing.done, flush=True)
        time.sleep(0.02 if is_slow else 0.0)

    practice.practise(token_course([Path(p) for p in paths]), Path(folder), rhythm(int(updates)), "f", listen)


if __name__ == "__main__":
    main(sys.argv[1:])
