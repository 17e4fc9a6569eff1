"""The imported weights that a fine-tune starts from: the pair that was named or the newest, its judges and helpers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from appliance.assembly import find_models
from appliance.contracts import JsonDict
from appliance.engine.gpt_sovits.pairing import ENGINE, TITLES, TRAINABLE
from appliance.errors import InvalidInput, NotFound
from appliance.voices.blobs import BlobStore
from appliance.voices.models import Model, ModelStore

JUDGES = "s2d"
MOST_MODELS = 500  # that are looked through


def takes_base(engine: str) -> bool:
    """Whether voices of this engine are made of weights that an operator imported."""
    return engine == ENGINE


class BaseWeights:
    """Finds them when a job is ordered, and again, by their ids, when it runs."""

    def __init__(self, models: ModelStore, blobs: BlobStore) -> None:
        self._models, self._blobs = models, blobs

    async def choose(self, tenant: str, named: Sequence[str]) -> dict[str, str]:
        """Kind -> id of the model. `named` are one s1 and one s2; empty: those that were imported last.

        Raises InvalidInput (training_base_wrong, model_kind_wrong, model_pair_wrong, model_ambiguous), NotFound
        (training_base_missing, model_not_imported, model_helper_missing).
        """
        models = await find_models(self._models, tenant, named or await self._newest(tenant))
        s2 = models["s2"]
        if s2.version not in TRAINABLE:
            raise InvalidInput("training_base_wrong", problem=s2.version)
        if s2.report.get("missing"):
            raise InvalidInput("training_base_wrong", problem="enc_q")
        models[JUDGES] = await self._judges(tenant, s2.version)
        return {kind: model.id for kind, model in models.items()}

    async def files(self, tenant: str, base: Mapping[str, str]) -> dict[str, JsonDict]:
        """Role -> {"path", "sha256"} of weights and configurations. Raises NotFound("model_not_imported")."""
        found: dict[str, JsonDict] = {}
        for kind, model_id in base.items():
            digests = (await self._models.get(tenant, model_id)).files
            for role, name in ((kind, "weights"), (f"{kind}_config", "config")):
                found[role] = {"path": str(self._blobs.path(digests[name])), "sha256": digests[name]}
        return found

    async def _newest(self, tenant: str) -> tuple[str, str]:
        pair = [await self._models.newest(tenant, kind) for kind in ("s1", "s2")]
        if pair[0] is None or pair[1] is None:
            raise NotFound("training_base_missing", engine=ENGINE)
        return pair[0].id, pair[1].id

    async def _judges(self, tenant: str, version: str) -> Model:
        """Those of the same version; where only the name tells v2Pro and v2ProPlus apart, the name."""
        models = (await self._models.list(tenant, limit=MOST_MODELS)).items
        width = "v2" if version == "v2" else "v2Pro"
        fitting = [model for model in models if model.kind == JUDGES and model.version == width]
        if not fitting:
            raise NotFound("model_helper_missing", kind=JUDGES, title=TITLES[JUDGES])
        is_plus = version == "v2ProPlus"
        return next((model for model in fitting if ("plus" in model.name.lower()) == is_plus), fitting[0])
