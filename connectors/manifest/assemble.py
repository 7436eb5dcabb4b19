"""Typed manifests to what the gateway works with: inheritance applied, secrets looked up, defaults filled in."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from connectors.declared import (
    Agent,
    Auth,
    BreakerTerms,
    Connection,
    Egress,
    Limit,
    OAuth2,
    Operation,
    Operator,
    Readback,
    Use,
)
from connectors.limits import at_once
from connectors.manifest.model import (
    TOOL_SEPARATOR,
    AgentManifest,
    ApiKeyAuth,
    Approval,
    AuthField,
    Breaker,
    ConnectionManifest,
    ConnectorManifest,
    LimitManifest,
    OAuth2Auth,
    OperationManifest,
    OperatorManifest,
    UseField,
    WeightedUse,
)
from connectors.manifest.origin import host_of
from connectors.manifest.part import Part
from connectors.manifest.rates_model import rate_rules
from connectors.manifest.secret_reference import Reference
from connectors.secret import MissingSecret, Secret, resolve
from schemas.effect import OperationClass

_P = TypeVar("_P", bound=Part)


def inherit(inherited: _P, own: _P | None) -> _P:
    """Return what is inherited, changed by the keys that are written."""
    if own is None:
        return inherited
    return inherited.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})


def egress_of(manifest: ConnectorManifest) -> Egress:
    hosts = manifest.egress.allow_hosts
    if hosts is None:
        host = host_of(manifest.base_url)
        hosts = (host,) if host else ()
    return Egress(allow_hosts=tuple(host.lower() for host in hosts), allow_private=manifest.egress.allow_private)


def operations_of(manifest: ConnectorManifest) -> Iterator[Operation]:
    auth, egress = _auth(manifest.auth), egress_of(manifest)
    for name, operation in manifest.operations.items():
        yield _operation(manifest, name, operation, auth, egress)


def _operation(manifest: ConnectorManifest, name: str, own: OperationManifest, auth: Auth, egress: Egress) -> Operation:
    keyed = own.idempotency if own.op_class is OperationClass.KEYED else None
    # A vendor that only notes the key, and can be asked for it, is told it as well.
    told = own.idempotency if own.op_class is OperationClass.VERIFIABLE else keyed
    return Operation(
        tool=f"{manifest.metadata.name}{TOOL_SEPARATOR}{name}",
        connector=manifest.metadata.name,
        name=name,
        op_class=own.op_class,
        method=own.request.method,
        path=own.request.path,
        query=own.request.query,
        headers=own.request.headers,
        base_url=manifest.base_url.rstrip("/"),
        timeout_s=(own.timeout or manifest.defaults.timeout).seconds,
        max_attempts=inherit(manifest.defaults.retry, own.retry).max_attempts,
        idempotency_header=told.header if told else None,
        idempotency_window_s=keyed.window.seconds if keyed else None,
        auth=auth,
        egress=egress,
        input_schema=own.input,
        output_schema=own.output,
        on_breaking=inherit(manifest.defaults.contract, own.contract).on_breaking,
        **_approval(own.approval),
        title=own.title,
        description=own.description,
        uses=tuple(_uses(manifest, own)),
        rates=rate_rules(manifest.rate_headers),
        breaker=_breaker(manifest.defaults.breaker),
        readback=_readback(manifest, own),
    )


def _readback(manifest: ConnectorManifest, own: OperationManifest) -> Readback | None:
    declared = own.readback
    if declared is None or own.op_class is not OperationClass.VERIFIABLE:
        return None
    return Readback(
        tool=f"{manifest.metadata.name}{TOOL_SEPARATOR}{declared.operation}",
        arguments=declared.arguments,
        path=declared.match.path,
        where=declared.match.where,
        settle_s=declared.settle.seconds,
        result=declared.result,
        absent_on=declared.absent_on,
    )


def _uses(manifest: ConnectorManifest, own: OperationManifest) -> Iterator[Use]:
    costs = manifest.defaults.limits if own.limits is None else own.limits
    for name, declared in manifest.limits.items():
        cost = costs.get(name, 0)
        if cost != 0:
            yield _use(_limit(name, declared), cost)


def _use(limit: Limit, cost: UseField) -> Use:
    if isinstance(cost, WeightedUse):
        return Use(limit=limit, cost=cost.estimate.plus, estimate=cost.estimate.path, actual=cost.actual)
    return Use(limit=limit, cost=cost)


def _limit(name: str, declared: LimitManifest) -> Limit:
    if declared.rate is None:
        most = declared.concurrency or 1
        return Limit(name=name, per=declared.per, kind="concurrency", most=most, window_us=0, text=at_once(most))
    return Limit(
        name=name,
        per=declared.per,
        kind=declared.mode,
        most=declared.rate.count,
        window_us=round(declared.rate.window_s * 1_000_000),
        text=declared.rate.text,
    )


def _approval(declared: Approval | None) -> dict[str, Any]:
    if declared is None:
        return {"approval_required": False}
    return {
        "approval_required": declared.required,
        "approval_timeout_s": declared.timeout.seconds,
        "approval_on_timeout": declared.on_timeout,
    }


def _breaker(declared: Breaker) -> BreakerTerms:
    return BreakerTerms(
        window_s=declared.window.seconds,
        min_calls=declared.min_calls,
        failure_rate=declared.failure_rate.fraction,
        consecutive=declared.consecutive,
        slow_over_s=declared.slow.over.seconds,
        slow_rate=declared.slow.rate.fraction,
        open_s=declared.open.seconds,
    )


def _auth(declared: AuthField) -> Auth:
    if isinstance(declared, ApiKeyAuth):
        return Auth(type=declared.type, where=declared.where, name=declared.name)
    if isinstance(declared, OAuth2Auth):
        return Auth(type=declared.type, oauth2=_oauth2(declared))
    return Auth(type=declared.type)


def _oauth2(declared: OAuth2Auth) -> OAuth2:
    return OAuth2(
        grant=declared.grant,
        token_url=declared.token_url,
        scopes=declared.scopes,
        client_auth=declared.client_auth,
        rotation=declared.rotation,
        key_id=declared.key_id,
        audience=declared.audience,
        authorize_url=declared.authorize_url,
    )


def connection_of(manifest: ConnectionManifest, environ: Mapping[str, str]) -> Connection:
    found = {name: resolve(reference, environ) for name, reference in manifest.secrets.items()}
    return Connection(
        name=manifest.metadata.name,
        connector=manifest.metadata.connector,
        base_url=manifest.base_url.rstrip("/") if manifest.base_url else None,
        secrets={name: value for name, value in found.items() if isinstance(value, Secret)},
        missing={name: value for name, value in found.items() if isinstance(value, MissingSecret)},
    )


def agent_of(manifest: AgentManifest, environ: Mapping[str, str]) -> Agent:
    key, missing = _key(manifest.key, environ)
    return Agent(name=manifest.metadata.name, key=key, allow=manifest.allow, missing=missing)


def operator_of(manifest: OperatorManifest, environ: Mapping[str, str]) -> Operator:
    key, missing = _key(manifest.key, environ)
    return Operator(name=manifest.metadata.name, key=key, roles=tuple(manifest.roles), missing=missing)


def _key(reference: Reference | None, environ: Mapping[str, str]) -> tuple[Secret | None, MissingSecret | None]:
    found = resolve(reference, environ) if reference else None
    return (found, None) if isinstance(found, Secret) else (None, found)
