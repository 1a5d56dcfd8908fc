"""The spec: YAML to a frozen object, or every fault at once with file, line, key path and nearest name."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import SpecError
from orchestrator.spec import Arm, Resources, Share, SweepSpec, Workload, load_spec, spec_from_text
from orchestrator.spec.options import DATASETS, MODELS, OPTIMIZERS, SAMPLERS, SCHEDULERS, AutoTauOptions
from tests.orchestrator.specs import TINY, tiny_spec

SWEEPS = sorted((Path(__file__).parents[3] / "sweeps").rglob("*.yaml"))


def faults(*overrides: str) -> list[str]:
    with pytest.raises(SpecError, match=r".+") as caught:
        tiny_spec(*overrides)
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.name)
def test_every_shipped_sweep_loads_and_reads_back_equal(path: Path) -> None:
    spec = load_spec(path)
    again = spec_from_text(spec.to_yaml())
    assert again.to_yaml() == spec.to_yaml()
    assert again.identity == spec.identity


def test_the_baseline_is_there_even_when_not_written() -> None:
    assert list(tiny_spec().arms) == ["baseline", "teleport"]
    assert tiny_spec("arms={}").studies == [("digits", "baseline")]


def test_the_baseline_comes_first_wherever_it_was_written() -> None:
    text = TINY.replace("search:", "  baseline: {}\nsearch:")
    assert list(spec_from_text(text).arms) == ["baseline", "teleport"]


def test_confirm_seeds_are_fresh() -> None:
    spec = tiny_spec("search.seeds=[1000, 1002]", "confirm.seeds=3")
    assert spec.confirm_seeds == (1001, 1003, 1004)
    assert tiny_spec("confirm.seeds=[7, 9]").confirm_seeds == (7, 9)


def test_a_confirm_seed_of_the_search_is_refused() -> None:
    assert any("seeds that the search never saw, but [0] are" in f for f in faults("confirm.seeds=[0, 1]"))


def test_resources_are_for_both_phases_or_for_each() -> None:
    assert tiny_spec("resources={cpu: 2}").resources.share("confirm") == Share(cpu=2.0)
    spec = tiny_spec("resources={search: {cpu: 1, gpu: 0.5}, confirm: {gpu: 1}}")
    assert spec.resources.share("search") == Share(cpu=1.0, gpu=0.5)
    assert spec.resources.share("confirm") == Share(cpu=1.0, gpu=1.0)
    assert Resources().share("search") == Share()
    assert "give either cpu for both phases, or search and confirm" in faults("resources={cpu: 1, search: {cpu: 2}}")[0]


def test_a_fraction_of_a_gpu_is_for_the_search_alone() -> None:
    """Seconds of confirm are reported, so it shares its GPU with nobody unless that is written."""
    spec = tiny_spec("resources={gpu: 0.25, memory: 8, custom: {A100: 1}}")
    assert spec.resources.share("search") == Share(gpu=0.25, memory=8.0, custom={"A100": 1.0})
    assert spec.resources.share("confirm") == Share(gpu=1.0, memory=8.0, custom={"A100": 1.0})
    assert tiny_spec("resources={gpu: 2}").resources.share("confirm").gpu == 2.0
    written = tiny_spec("resources={search: {gpu: 0.25}, confirm: {gpu: 0.5}}")
    assert written.resources.share("confirm").gpu == 0.5


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        ("{gpu: 1.5}", "resources.gpu: above 1, GPUs must be whole: write 1 or 2 instead of 1.5"),
        ("{search: {gpu: 0.00001}}", "resources.search.gpu: must be 0 or at least 0.0001"),
        ("{cpu: 0}", "resources.cpu: must be greater than or equal to 0.0001"),
        ("{memory: -1}", "resources.memory: must be greater than or equal to 0"),
        ("{custom: {GPU: 1}}", "resources.custom: 'GPU' is a resource of Ray's own; write resources.gpu for it"),
        ("{custom: {'node:10.0.0.1': 1}}", "resources.custom: 'node:10.0.0.1' is a resource of Ray's own"),
        ("{confirm: {custom: {A100: 0}}}", "resources.confirm.custom.A100: must be greater than or equal to 0.0001"),
    ],
)
def test_what_ray_cannot_count_is_refused(resources: str, told: str) -> None:
    [fault] = faults(f"resources={resources}")
    assert told in fault


def test_resources_read_back_as_they_were_written() -> None:
    spec = tiny_spec("resources={cpu: 2, gpu: 0.5, custom: {A100: 1, trials: 0.5}}")
    again = spec_from_text(spec.to_yaml())
    assert again == spec
    assert again.identity == tiny_spec().identity


def test_identity_is_what_shapes_the_results() -> None:
    one = tiny_spec()
    assert one.identity == tiny_spec("description=else", "resources={cpu: 2}").identity
    assert one.identity == tiny_spec("workloads.digits.data.root=/elsewhere").identity
    assert one.identity != tiny_spec("search.seed=1").identity
    assert one.identity != tiny_spec("workloads.digits.epochs=2").identity


def test_a_spec_without_scheduler_is_the_same_sweep_as_before_there_were_any() -> None:
    assert tiny_spec("search.scheduler=none").identity == tiny_spec().identity
    assert tiny_spec("search.scheduler=asha").identity != tiny_spec().identity


@pytest.mark.parametrize("name", sorted(set(SCHEDULERS) - {"wilcoxon"}))  # which goes with a shared search alone
def test_a_scheduler_is_a_name_or_a_mapping_and_reads_back(name: str) -> None:
    bare, written = tiny_spec(f"search.scheduler={name}"), tiny_spec(f"search.scheduler={{name: {name}}}")
    assert bare.search.scheduler == written.search.scheduler
    assert bare.search.scheduler.name == name
    assert spec_from_text(bare.to_yaml()) == bare


def test_what_a_scheduler_is_told_reads_back() -> None:
    spec = tiny_spec("search.scheduler={name: asha, grace: 0.2, reduction_factor: 2, metric: validation_loss}")
    assert spec.search.scheduler.rungs == (200, 400, 800)
    assert spec_from_text(spec.to_yaml()) == spec
    median = tiny_spec("search.scheduler={name: median, grace: 0.3, interval: 0.25}").search.scheduler
    assert median.rungs == (300, 550, 800)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("ashaa", "ashaa is not registered; did you mean 'asha'?"),
        ("{name: asha, grase: 0.1}", "unknown key grase; did you mean 'grace'?"),
        ("{name: asha, grace: 1.0}", "must be less than 1"),
        ("{name: asha, reduction_factor: 1}", "must be greater than or equal to 2"),
        ("{name: asha, metric: steps_to_target}", "steps_to_target is none of the valid values"),
        ("{grace: 0.1}", "missing key 'name'"),
    ],
)
def test_a_wrong_scheduler_is_told_with_what_would_be_right(written: str, told: str) -> None:
    [fault] = faults(f"search.scheduler={written}")
    assert "search.scheduler" in fault
    assert told in fault


def test_a_scheduler_judges_all_trials_of_a_workload_by_one_metric() -> None:
    target = (
        "workloads.digits.target={choice: [{metric: train_loss, value: 1.0}, {metric: validation_loss, value: 1.0}]}"
    )
    timed = "search.objective.metric=steps_to_target"
    [fault] = faults("search.scheduler=asha", timed, target)
    assert "the target of digits may be on train_loss or validation_loss" in fault
    assert tiny_spec("search.scheduler={name: asha, metric: train_loss}", timed, target)
    assert tiny_spec("search.scheduler=asha", timed)


@pytest.mark.parametrize(
    ("tau", "expected"),
    [("0.9", 0.9), ("1", 1.0), ("auto", "auto"), ("{}", AutoTauOptions()), ("{least: 0.9}", AutoTauOptions(least=0.9))],
)
def test_tau_is_a_number_or_chosen_per_layer(tau: str, expected: object) -> None:
    teleport = tiny_spec(f"arms.teleport.teleport.tau={tau}").example_of("teleport").teleport
    assert teleport is not None
    assert teleport.tau == expected
    assert Arm.model_validate_json(Arm(teleport=teleport).model_dump_json()).teleport == teleport


def test_every_form_of_tau_may_stand_in_one_choice() -> None:
    spec = tiny_spec("arms.teleport.teleport.tau={choice: [1.0, auto, {null_share: {uniform: [0.1, 0.3]}}]}")
    names = {d.name for d in spec.arms["teleport"].distributions()}
    assert {"teleport.tau", "teleport.tau[null_share].null_share"} <= names


def test_a_spec_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        tiny_spec().name = "other"  # type: ignore[misc]


def test_overrides_take_yaml_and_dotted_keys() -> None:
    spec = tiny_spec("search.trials=5", "workloads.digits.optimizer.lr=1e-2", "name=other")
    assert (spec.search.trials, spec.name) == (5, "other")
    assert not spec.workloads["digits"].distributions()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("novalue", "must be KEY=VALUE, is novalue"),
        ("=3", "must be KEY=VALUE"),
        ("name.deeper=3", "name is not a mapping, so it has no keys"),
        ("workloads.digits.optimizer.lr.loguniform.low=1", "so it has no keys"),
    ],
)
def test_broken_overrides_are_told(override: str, message: str) -> None:
    assert any(message in fault for fault in faults(override))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("serch={}", "serch: unknown key serch; did you mean 'search'?"),
        ("search.trails=3", "search.trails: unknown key trails; did you mean 'trials'?"),
        ("workloads.digits.model.width=[3]", "model.width: unknown key width; did you mean 'widths'?"),
        ("workloads.digits.evaluate.evry=3", "evaluate.evry: unknown key evry; did you mean 'every'?"),
        ("workloads.digits.optimizer.momentun=0.9", "did you mean 'momentum'?"),
        ("arms.teleport.teleport.schedule.epoch=3", "schedule.epoch: unknown key epoch; did you mean 'epochs'?"),
        ("arms.teleport.teleport.tau=auot", "teleport.tau: auot is none of the valid values; did you mean 'auto'?"),
        ("arms.teleport.teleport.tau=2", "teleport.tau: must be less than or equal to 1, is 2"),
        ("arms.teleport.teleport.tau={leest: 1}", "teleport.tau.leest: unknown key leest; did you mean 'least'?"),
        ("arms.teleport.teleport.tau={choice: [1, {drift: 0}]}", "tau.choice[1].drift: must be greater than 0, is 0"),
        (
            "arms.teleport.teleport={tau: auto, factorisation: randomised, step: {rule: fixed, lr: 1}}",
            "factorisation must be exact or auto",
        ),
        ("arms.teleport={telport: {}}", "telport: unknown key telport; did you mean 'teleport'?"),
        ("workloads.digits.model.name=mpl", "model: mpl is not registered; did you mean 'mlp'?"),
        ("workloads.digits.data.name=digit", "data: digit is not registered; did you mean 'digits'?"),
        ("workloads.digits.optimizer.name=sdg", "optimizer: sdg is not registered; did you mean 'sgd'?"),
        (
            "workloads.digits.model={name: transformer}",
            "workloads.digits.model: model transformer takes sequences, data set digits gives images; models for "
            "images: cnn, mlp, resnet18, torchvision, vit",
        ),
        (
            "workloads.digits.model={name: lstm}",
            "digits.model: model lstm takes sequences and tokens, data set digits gives images",
        ),
        (
            "workloads.digits.model={name: cnn, channels: [4, 4, 4, 4]}",
            "digits.model: model cnn does not fit data set digits: 4 convolutions halve the image as often, and 8 × 8 "
            "allows 3 times",
        ),
        (
            "workloads.digits.model={name: vit, patch_size: {choice: [4, 3]}}",
            "digits.model: model vit does not fit data set digits: patch_size must divide the image's sides; it is 3, "
            "they are 8 × 8",
        ),
        (
            "workloads.digits.model={name: torchvision, architecture: vit_b_16}",
            "vit_b_16 takes squares of a multiple of 16 pixels, not 8 × 8; set resize",
        ),
        (
            "workloads.digits.model={name: torchvision, architecture: resnet81}",
            "digits.model.architecture: torchvision has no classification model 'resnet81'; did you mean 'resnet18'?",
        ),
        (
            "workloads.digits.model={name: vit, d_model: 6}",
            "digits.model: d_model must be a multiple of num_heads; they are 6 and 4",
        ),
        ("workloads.digits.optimizer={name: adam, lr: 0.1, betas: [0.9]}", "optimizer.betas"),
        (
            "workloads.digits.optimizer={name: adam, lr: 0.1, betas: [{uniform: [0.8, 1.0]}, 0.9]}",
            "optimizer.betas[0]: must be less than 1, is 1.0",
        ),
        (
            "workloads.digits.lr_schedule={name: cosin}",
            "lr_schedule: cosin is not registered; did you mean 'cosine'? (known: constant, cosine, step)",
        ),
        ("workloads.digits.lr_schedule={name: step}", "lr_schedule.every: missing: this key is required"),
        ("workloads.digits.lr_schedule={name: cosine, warm_up: 3}", "lr_schedule.warm_up: unknown key warm_up; did"),
        ("workloads.digits.lr_schedule={name: cosine, warmup: -1}", "lr_schedule.warmup: must be greater than or"),
        ("workloads.digits.lr_schedule={warmup: 3}", "lr_schedule: missing key 'name'"),
        ("search.sampler=tpx", "search.sampler: tpx is not registered; did you mean 'tpe'?"),
        (
            "arms.teleport.teleport.step={rule: groth, factor: 2}",
            "groth is not registered; did you mean 'growth'?",
        ),
        ("arms.teleport.teleport.step={lr: 1.0}", "step: missing key 'rule'"),
        (
            "arms.teleport.teleport.step.choice=[{rule: growth, factor: 0.5}]",
            "choice[0].factor: must be greater than 1",
        ),
        ("workloads.digits.epochs=two", "workloads.digits.epochs: must be a valid integer, is two"),
        ("workloads.digits.epochs=0", "epochs: must be greater than 0, is 0"),
        ("workloads.digits.epochs=true", "epochs: must be a valid integer, is True"),
        ("workloads.digits.optimizer.lr='0.1'", "optimizer.lr: must be a valid number, is '0.1'"),
        ("workloads.digits.optimizer.lr=.nan", "optimizer.lr: must be"),
        ("workloads.digits.optimizer.lr=.inf", "optimizer.lr: must be"),
        ("workloads.digits.optimizer={name: sgd}", "optimizer.lr: missing: this key is required"),
        ("workloads.digits.target.metric=test_loss", "target.metric: test_loss is none of the valid values"),
        ("search.objective.metric=test_accuracy", "objective.metric: test_accuracy is none of the valid values"),
        ("search.objective.mode=max", "train_loss is better when lower: mode must be min"),
        ("arms.teleport.teleport.tau=0", "tau: must be greater than 0, is 0"),
        ("arms.teleport.teleport.tau=1.5", "tau: must be less than or equal to 1, is 1.5"),
        ("arms.teleport.teleport.tau={uniform: [0.9, 1.1]}", "tau: must be less than or equal to 1, is 1.1"),
        (
            "arms.teleport.teleport.tau={choice: [1.0, 2.0]}",
            "tau.choice[1]: must be less than or equal to 1, is 2.0",
        ),
        ("workloads.digits.optimizer.lr={loguniform: [0, 1]}", "low must be above 0 on a logarithmic scale"),
        ("workloads.digits.optimizer.lr={uniform: [1, 0.5]}", "low must not be above high"),
        ("workloads.digits.optimizer.lr={choice: []}", "must be a list with at least one value"),
        ("arms.baseline={teleport: {}}", "arms.baseline: the baseline arm is the plain optimizer"),
        (
            "arms.teleport={}",
            "arms.teleport: must hold exactly one kind of arm (known: init_scaled, level_set, lr_scaled",
        ),
        ("arms.teleport=3", "arms.teleport: must be a mapping of settings, is 3"),
        ("workloads=[]", "workloads: must be a valid dictionary"),
        ("workloads={}", "workloads: "),
        ("version=2", "version: 2 is none of the valid values"),
        ("name=../x", "name: '../x' is no valid name"),
        ("name=a/b", "is no valid name"),
        ("name=..", "is no valid name"),
        ("name=.hidden", "is no valid name"),
        ("name=''", "is no valid name"),
        (f"name={'x' * 65}", "is no valid name"),
        ("name=a..b", "is no valid name"),
        ("arms.a/b={teleport: {}}", "is no valid name"),
        ("search.seeds=[]", "search.seeds: must"),
        ("search.seeds=[1, 1]", "seeds must differ from each other; they are [1, 1]"),
        ("search.trials=-1", "search.trials: must be greater than or equal to 0"),
        ("confirm.seeds=-1", "confirm.seeds"),
        ("search.trials={int: [1, 4]}", "search.trials: must be a valid integer"),
    ],
)
def test_every_mistake_is_told_with_its_place(override: str, message: str) -> None:
    found = faults(override)
    assert any(message in fault for fault in found), found


def test_all_faults_come_at_once_and_in_their_words() -> None:
    found = faults(
        "serch={}",
        "workloads.digits.model.name=mpl",
        "arms.teleport.teleport.tau=2",
        "search.trials=none",
        "name=a/b",
    )
    assert len(found) == 5, found
    assert all(fault.startswith("tiny.yaml:") for fault in found), found
    assert not any("pydantic" in fault or "Input" in fault for fault in found)


def test_a_fault_that_several_corners_share_is_told_once() -> None:
    found = faults("workloads.digits.optimizer.lr={choice: [0.1, 0.2, 0.3]}", "workloads.digits.epochs=x")
    assert len(found) == 1, found


@pytest.mark.parametrize("missing", ["version", "name", "workloads"])
def test_a_required_key_that_is_missing_is_told(missing: str) -> None:
    lines = TINY.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(missing))
    stop = next(i for i in range(start + 1, len(lines)) if not lines[i].startswith(" "))
    with pytest.raises(SpecError, match=f"{missing}: missing: this key is required"):
        spec_from_text("\n".join(lines[:start] + lines[stop:]), "f.yaml")


def test_concrete_values_come_out_of_the_templates() -> None:
    spec = tiny_spec()
    workload = Workload.model_validate(spec.workloads["digits"].concretise({"optimizer.lr": 0.1}))
    assert workload.model_dump(mode="json")["optimizer"]["lr"] == 0.1
    arm = Arm.model_validate(
        spec.arms["teleport"].concretise(
            {"teleport.tau": 1.0, "teleport.step": "rule=growth", "teleport.step[rule=growth].factor": 1.5}
        )
    )
    assert arm.kind == "teleport"
    assert Arm().kind == "baseline"


@pytest.mark.parametrize("family", [MODELS, DATASETS, OPTIMIZERS, SAMPLERS])
def test_every_entry_is_registered_under_its_own_name(family: dict[str, object]) -> None:
    assert family
    assert all(name == name.lower() for name in family)


def test_yaml_keeps_small_numbers_numbers() -> None:
    spec = tiny_spec("workloads.digits.optimizer.lr=1e-7")
    assert "1.0e-07" in spec.to_yaml()
    assert isinstance(spec_from_text(spec.to_yaml()), SweepSpec)
