"""``durably serve`` and ``durably worker`` as processes: start, stop, kill, split."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.server.processes import Command, Server

from durably.testing import until

INSTANCE = {"name": "gpu-1", "productName": "RTX 4090 24GB", "templateId": "bare"}
PROGRAM = '''
import asyncio
from pathlib import Path

from durably import Fail, JobContext, JobQueueService

queue = JobQueueService("sqlite:///jobs.db", processing_interval=0.1)


@queue.task
async def quick(value: int = 0) -> int:
    return value + 1


@queue.task
async def gated(ctx: JobContext) -> str:
    """Runs until the file `go` is there."""
    Path(f"started-{ctx.id}").touch()
    while not Path("go").exists():
        await asyncio.sleep(0.01)
    return "finished"


@queue.task
async def refused() -> None:
    raise Fail("not today")
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a program whose queue is `program:queue`."""
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


async def has_started(folder: Path, job_id: str) -> None:
    async def started() -> bool:
        return (folder / f"started-{job_id}").exists()

    await until(started, timeout=30)


async def has_closed(server: Server) -> None:
    """Wait until the server takes no connections any more."""

    async def refused() -> bool:
        try:
            await server.get("/health/live")
        except aiohttp.ClientError:
            return True
        return False

    await until(refused, timeout=30)


async def test_without_a_key_it_starts_the_simulator_and_says_so_loudly(folder: Path) -> None:
    """An instance becomes ready, and nobody believes that it is real."""
    async with Server(folder=folder, DURABLY_POLL_INTERVAL="0.1") as server:
        assert any("SIMULATOR" in line and "NOVITA_API_KEY" in line for line in server.said)
        accepted = await server.post("/api/instances", INSTANCE)

        async def is_ready() -> bool:
            found = await server.get(f"/api/instances/{accepted['instanceId']}")
            return bool(found["status"] == "ready")

        await until(is_ready, timeout=60)
        server.signal(signal.SIGTERM)
        assert await server.ends() == 0


async def test_sigterm_closes_streams_and_lets_running_jobs_finish(folder: Path) -> None:
    """An open stream does not hold the end up; the job does, and is completed; exit code 0."""
    async with Server("program:queue", folder=folder) as server:
        job = await server.post("/api/jobs", {"type": "gated"})
        late = await server.post("/api/jobs", {"type": "gated", "delay": 3600})
        await has_started(folder, job["id"])
        async with server.session.get("/api/events") as stream:
            assert await stream.content.readline() == b"retry: 2000\n"
            server.signal(signal.SIGTERM)
            await asyncio.wait_for(stream.content.read(), 30)
        await has_closed(server)
        (folder / "go").touch()
        assert await server.ends() == 0
        assert server.said[-1] == "stopped"
    async with Server("--no-worker", folder=folder, DURABLY_STORE="sqlite:///jobs.db") as server:
        done = await server.get(f"/api/jobs/{job['id']}")
        assert (done["status"], done["result"]) == ("completed", "finished")
        assert (await server.get(f"/api/jobs/{late['id']}"))["status"] == "pending"


async def test_who_waits_for_a_job_is_answered_at_the_end(folder: Path) -> None:
    """`Prefer: wait` does not hold the end up, and its client is not cut off."""
    async with Server("program:queue", "--timeout", "0", folder=folder) as server:
        job = await server.post("/api/jobs", {"type": "gated"})
        await has_started(folder, job["id"])
        waiting = asyncio.ensure_future(server.get(f"/api/jobs/{job['id']}", Prefer="wait=60"))
        async with server.session.get("/metrics") as answer:
            assert answer.status == 200
        server.signal(signal.SIGTERM)
        assert (await asyncio.wait_for(waiting, 30))["status"] == "processing"
        assert await server.ends() == 0


async def test_what_still_runs_at_the_timeout_is_given_back(folder: Path) -> None:
    """It is pending again with no attempt spent, and the end says how many there were."""
    async with Server("program:queue", "--timeout", "0.1", folder=folder) as server:
        job = await server.post("/api/jobs", {"type": "gated"})
        await has_started(folder, job["id"])
        server.signal(signal.SIGTERM)
        assert await server.ends() == 0
        assert any("1 jobs were still running" in line for line in server.said)
    async with Server("--no-worker", folder=folder, DURABLY_STORE="sqlite:///jobs.db") as server:
        found = await server.get(f"/api/jobs/{job['id']}")
        assert (found["status"], found["attempts"]) == ("pending", 0)


async def test_a_second_signal_waits_for_nothing(folder: Path) -> None:
    """Whoever insists is not kept for 30 seconds."""
    async with Server("program:queue", folder=folder) as server:
        job = await server.post("/api/jobs", {"type": "gated"})
        await has_started(folder, job["id"])
        server.signal(signal.SIGTERM)
        await has_closed(server)
        server.signal(signal.SIGTERM)
        assert await server.ends() == 0


async def test_an_accepted_answer_survives_a_kill_at_any_moment(folder: Path) -> None:
    """Every job whose 202 arrived is there after SIGKILL, and each key has one job."""
    accepted: dict[str, str] = {}

    async def produce(server: Server, number: int) -> None:
        for turn in range(10_000):
            key = f"{number}-{turn}"
            body = {"type": "nobody", "payload": key}
            answer = await server.post("/api/jobs", body, **{"Idempotency-Key": key})
            accepted[key] = answer["id"]

    for round in range(3):
        async with Server("--no-worker", folder=folder) as server:
            producers = [asyncio.ensure_future(produce(server, 100 * round + n)) for n in range(8)]
            goal = len(accepted) + 60 + 41 * round

            async def enough(goal: int = goal) -> bool:
                return len(accepted) >= goal

            await until(enough, timeout=30)
            server.signal(signal.SIGKILL)
            await asyncio.gather(*producers, return_exceptions=True)
    async with Server("--no-worker", folder=folder) as server:
        for key, job_id in accepted.items():
            body = {"type": "nobody", "payload": key}
            again = await server.post("/api/jobs", body, **{"Idempotency-Key": key})
            assert (again["id"], again["payload"]) == (job_id, key)
        stats = await server.get("/api/stats")
        # At most one job a producer was stored and not answered.
        assert len(accepted) <= stats["totalJobs"] <= len(accepted) + 24


async def test_api_and_worker_may_be_processes_of_their_own(folder: Path) -> None:
    """`serve --no-worker` accepts, `worker MODULE:QUEUE` runs; readiness is each one's own."""
    store = {"DURABLY_STORE": "sqlite:///jobs.db"}
    async with Server("--no-worker", folder=folder, **store) as server:
        job = await server.post("/api/jobs", {"type": "quick", "payload": {"value": 41}})
        assert (await server.get("/health/ready"))["status"] == "ready"
        told = await server.get(f"/api/jobs/{job['id']}/explain")
        assert "no live worker" in told["explanation"]
        async with Command("worker", "program:queue", folder=folder) as worker:
            ready = await worker.hears("worker ready")
            assert "3 job types" in ready
            assert "32 slots" in ready
            done = await server.get(f"/api/jobs/{job['id']}", Prefer="wait=30")
            assert (done["status"], done["result"]) == ("completed", 42)
            failed = await server.post("/api/jobs", {"type": "refused"})
            found = await server.get(f"/api/jobs/{failed['id']}", Prefer="wait=30")
            assert (found["status"], found["error"]) == ("failed", "not today")
            worker.signal(signal.SIGTERM)
            assert await worker.ends() == 0


async def test_a_worker_runs_instances_for_an_api_in_another_process(folder: Path) -> None:
    """`worker --instances` creates what `serve --no-worker` has accepted."""
    fast = {"DURABLY_POLL_INTERVAL": "0.1"}
    async with (
        Server("--no-worker", folder=folder) as server,
        Command("worker", "--instances", folder=folder, **fast) as worker,
    ):
        await worker.hears("SIMULATOR")
        await worker.hears("worker ready")
        accepted = await server.post("/api/instances", INSTANCE)

        async def is_ready() -> bool:
            found = await server.get(f"/api/instances/{accepted['instanceId']}")
            return bool(found["status"] == "ready")

        await until(is_ready, timeout=60)
        worker.signal(signal.SIGINT)
        assert await worker.ends() == 0


@pytest.mark.parametrize(
    ("settings", "slots"),
    [({}, 32), ({"DURABLY_CONCURRENCY": "5"}, 5)],
)
async def test_settings_given_from_outside_win_over_the_program(
    folder: Path, settings: dict[str, str], slots: int
) -> None:
    """The program gives no concurrency: the setting's or its default counts."""
    async with Command("worker", "program:queue", folder=folder, **settings) as worker:
        assert f"{slots} slots" in await worker.hears("worker ready")


async def test_a_concurrency_in_the_program_is_kept_unless_one_is_given(folder: Path) -> None:
    """Strictly one after the other is a promise that a default must not break."""
    program = folder / "program.py"
    program.write_text(
        program.read_text().replace("processing_interval", "concurrency=1, processing_interval")
    )
    async with Command("worker", "program:queue", folder=folder) as worker:
        assert "1 slots" in await worker.hears("worker ready")
    async with Command("worker", "program:queue", "--concurrency", "3", folder=folder) as worker:
        assert "3 slots" in await worker.hears("worker ready")


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        (("serve", "--host", "0.0.0.0"), {}, "DURABLY_TOKENS is empty, got '0.0.0.0'"),
        (("serve", "--port", "99999"), {}, "DURABLY_PORT (flag --port)"),
        (("serve",), {"DURABLY_TOKENS": "root:0123456789abcdef"}, "roles: viewer, operator, admin"),
        (("serve",), {"DURABLY_TOKENS": "admin:short"}, "16 to 512 visible ASCII"),
        (("serve",), {"DURABLY_CONCURRENCY": "0"}, "DURABLY_CONCURRENCY (environment)"),
        (("worker",), {}, "need MODULE:QUEUE"),
        (("worker", "program"), {}, "need MODULE:QUEUE such as mail:queue, got 'program'"),
        (("worker", "nowhere:queue"), {}, "there is no module 'nowhere'"),
        (("worker", "program:nothing"), {}, "module 'program' has no 'nothing'"),
        (("worker", "program:quick"), {}, "must be a JobQueueService, got Task"),
        (("worker", "broken:queue"), {}, "ZeroDivisionError"),
        (("worker", "unparsable:queue"), {}, "SyntaxError"),
        (("serve", "program:queue", "--no-worker"), {}, "give one"),
        (("serve", "--store", "redis://x"), {}, "DURABLY_STORE (flag --store)"),
    ],
)
async def test_a_mistake_is_one_line_and_no_traceback(
    folder: Path, arguments: tuple[str, ...], settings: dict[str, str], said: str
) -> None:
    """Exit code 2 and a message that names the way out."""
    (folder / "broken.py").write_text("1 / 0\n")
    (folder / "unparsable.py").write_text("def\n")
    async with Command(*arguments, folder=folder, **settings) as command:
        assert await command.ends() == 2
    [line] = command.said
    assert line.startswith("error: ")
    assert said in line
    assert "short" not in line.replace("shorter", "")


async def test_a_port_that_is_taken_is_a_clear_error(folder: Path) -> None:
    """It names the port and the way to choose another."""
    async with Server("--no-worker", folder=folder) as server:
        port = server.url.rpartition(":")[2]
        async with Command("serve", "--port", port, "--no-worker", folder=folder) as second:
            assert await second.ends() == 2
        [line] = second.said
        assert f"cannot listen on 127.0.0.1 port {port}" in line


async def test_the_log_may_be_json(folder: Path) -> None:
    """Each line that the program logs is an object with time, level, logger and message."""
    program = folder / "program.py"
    program.write_text(
        program.read_text()
        + "\nimport logging\n\n@queue.task\nasync def speak() -> None:\n    logging.getLogger('program').warning('hear %s', 'me')\n"
    )
    async with Server("program:queue", "--log-format", "json", folder=folder) as server:
        await server.post("/api/jobs", {"type": "speak"})
        line: dict[str, Any] = json.loads(await server.hears("hear me"))
        assert (line["level"], line["logger"], line["message"]) == ("warning", "program", "hear me")
        assert line["time"].endswith("Z")


async def test_clients_work_against_a_server_with_a_token(folder: Path) -> None:
    """The same commands, the same output as on the store itself."""
    token = "operator-token-0123456789"
    settings = {"DURABLY_TOKENS": f"operator:{token}", "DURABLY_STORE": "sqlite:///jobs.db"}

    async def client(*arguments: str, **environ: str) -> tuple[int, str]:
        async with Command(*arguments, folder=folder, **environ) as command:
            return await command.ends(), "\n".join(command.said)

    async with Server("program:queue", folder=folder, **settings) as server:
        server.session.headers.update({"Authorization": f"Bearer {token}"})
        await server.post("/api/jobs", {"type": "quick"})
        remote = {"DURABLY_URL": server.url, "DURABLY_TOKEN": token}
        assert (await client("stats", **remote))[0] == 0
        assert (await client("pause", "mail", **remote))[0] == 0
        assert (await server.get("/api/stats"))["pausedQueues"] == ["mail"]
        assert (await client("resume", "mail", **remote))[0] == 0
        code, said = await client("stats", DURABLY_URL=server.url, DURABLY_TOKEN="x" * 20)
        assert code == 2
        assert "the token is unknown" in said
        assert "x" * 20 not in said


async def test_the_first_run_prints_a_link_that_signs_in_once(folder: Path) -> None:
    """With tokens; the second run of the store prints where the dashboard is, and no link."""
    token = "admin-token-0123456789"
    async with Server(folder=folder, DURABLY_TOKENS=f"admin:{token}") as server:
        line = await server.hears("dashboard at")
        code = line.partition("#/sign-in?code=")[2].split(" ")[0]
        assert (await server.post("/api/session", {"token": code}))["role"] == "admin"
        with pytest.raises(AssertionError, match="a link signs in once"):
            await server.post("/api/session", {"token": code})
    async with Server(folder=folder, DURABLY_TOKENS=f"admin:{token}") as server:
        assert "code=" not in await server.hears("dashboard at")
