"""How the simulated provider writes instances and bills as JSON values."""

from collections.abc import Iterable

from msgspec import structs

from durably.instances.simulator.instance import Instance
from durably.instances.simulator.state import Account


def instance_json(instance: Instance, *, now: float, address: str) -> dict[str, object]:
    """An instance as get and list show it; *address* is the host:port of its endpoints."""
    request, product, step = instance.request, instance.product, instance.step(now)
    running = step.status == "running"
    trouble = instance.trouble if instance.trouble and instance.trouble.at <= now else None
    return {
        "id": instance.id,
        "name": request.name,
        "clusterId": instance.cluster.id,
        "clusterName": instance.cluster.name,
        "status": step.status,
        "imageUrl": request.image_url,
        "imageAuthId": request.image_auth_id or "",
        "command": request.command or "",
        "entrypoint": request.entrypoint or "",
        "cpuNum": str(product.cpu_per_gpu * request.gpu_num),
        "memory": str(product.memory_per_gpu * request.gpu_num),
        "gpuNum": str(request.gpu_num),
        "portMappings": _port_mappings(instance, address) if running else [],
        "productId": product.id,
        "productName": product.name,
        "rootfsSize": request.rootfs_size,
        "volumeMounts": [
            {"type": "network", "size": "0", "id": mount.id, "mountPath": mount.mount_point}
            for mount in request.network_storages
        ],
        "statusError": {
            "state": trouble.state if trouble else "",
            "message": trouble.message if trouble else "",
        },
        "envs": [structs.asdict(env) for env in request.envs],
        "kind": request.kind,
        "billingMode": request.mode(),
        "endTime": "-1",
        "spotStatus": step.spot_status,
        "spotReclaimTime": _unix(instance.reclaimed_at(now)),
        "network": {"id": request.network_id or "", "ip": ""},
        **_components(address, running=running),
        "node": {"maxRootfsSize": product.max_root_fs},
        "jobs": [],
        "freeStorageSize": 60,
        "keepDataDay": 7,
        "createdAt": _unix(instance.created_at),
        "lastStartedAt": _unix(instance.last_entered("running", now)),
        "lastStoppedAt": _unix(instance.last_entered("exited", now)),
        "instancePrice": str(instance.price_per_hour()),
    }


def billing_json(account: Account, *, now: float) -> dict[str, object]:
    """The meter of every instance there ever was, and every create that was accepted."""
    meters = [_meter(instance, now) for instance in account.instances.values()]
    return {
        "instances": meters,
        "billingNow": sum(1 for meter in meters if meter["billing"]),
        "created": len(account.creates),
        "creates": account.creates,
    }


def state_json(instances: Iterable[Instance], *, now: float, address: str) -> dict[str, object]:
    """Every instance there ever was, removed ones too, with its meter."""
    return {
        "instances": [
            {**instance_json(instance, now=now, address=address), **_meter(instance, now)}
            for instance in instances
        ]
    }


def _meter(instance: Instance, now: float) -> dict[str, object]:
    step = instance.step(now)
    return {
        "id": instance.id,
        "name": instance.request.name,
        "status": step.status,
        "billedSeconds": instance.billed_seconds(now),
        "billing": step.billed,
        "costUsd": instance.cost_usd(now),
    }


def _port_mappings(instance: Instance, address: str) -> list[dict[str, object]]:
    applications = f"http://{address}/app/{instance.id}"
    return [
        {
            "port": port.port,
            "endpoint": f"{applications}/{port.port}" if port.type == "http" else address,
            "type": port.type,
        }
        for port in instance.request.opened_ports()
    ]


def _components(address: str, *, running: bool) -> dict[str, object]:
    host, _, port = address.rpartition(":")
    ssh = f"ssh -p {port} root@{host}" if running else ""
    return {
        "connectComponentSSH": {"sshCommand": ssh, "password": "", "isRunning": running},
        "connectComponentWebTerminal": {
            "address": "",
            "username": "",
            "password": "",
            "isRunning": False,
        },
        "connectComponentJupyter": {"port": 0, "address": "", "isRunning": False},
        "connectComponentLog": {
            "systemLogAddress": "",
            "instanceLogAddress": "",
            "isRunning": running,
        },
    }


def _unix(at: float) -> str:
    return str(int(at))
