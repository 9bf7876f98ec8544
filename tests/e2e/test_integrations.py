"""What the official client brings for the frameworks of others, unmodified, against this host.

No model is asked: the tools are called as a model's answer would have them called.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from podflare import Sandbox
from podflare.integrations.anthropic import handle_code_execution_tool_use

from support.settings import USER_ENVIRONMENT
from support.venvs import python_with

CLIENT = ("podflare==0.0.22", "httpx==0.28.1")

LANGCHAIN = """
import json, sys
from podflare.langchain import PodflareTool

tool = PodflareTool(host=sys.argv[1])
tool.invoke({"code": "x = 6"})
seen = [tool.invoke({"code": "print(x * 7)"}), tool.invoke({"code": "exit 3", "language": "bash"})]
tool.close()
each = PodflareTool(host=sys.argv[1], persistent_sandbox=False)
each.invoke({"code": "y = 1"})
seen.append(each.invoke({"code": "print('y' in globals())"}))
print(json.dumps(seen))
"""

OPENAI = """
import asyncio, json, sys
from agents.tool_context import ToolContext
from podflare.integrations.openai_agents import podflare_code_interpreter

tool = podflare_code_interpreter(host=sys.argv[1])

async def call(**arguments):
    text = json.dumps(arguments)
    context = ToolContext(context=None, tool_name="run_code", tool_call_id="call_1", tool_arguments=text)
    return await tool.on_invoke_tool(context, text)

async def main():
    await call(code="x = 6", language="python")
    seen = [await call(code="print(x * 7)", language="python"), await call(code="exit 3", language="bash")]
    tool.close_podflare_sandbox()
    print(json.dumps(seen))

asyncio.run(main())
"""


def run_in(python: Path, program: str, url: str, tmp_path: Path) -> Any:
    inherited = {name: value for name, value in USER_ENVIRONMENT.items() if not name.startswith("PODFLARE_")}
    done = subprocess.run(
        [str(python), "-c", program, url],
        capture_output=True,
        text=True,
        timeout=300,
        env=inherited | {"XDG_CACHE_HOME": str(tmp_path), "OPENAI_AGENTS_DISABLE_TRACING": "1"},
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-1000:]} {done.stderr[-3000:]}"
    return json.loads(done.stdout.splitlines()[-1])


def test_the_anthropic_helper_answers_a_tool_use_block(fresh: Sandbox) -> None:
    block = {"id": "toolu_1", "input": {"code": "print(6 * 7)"}}
    result = handle_code_execution_tool_use(block, fresh)
    assert result["type"] == "tool_result" and result["tool_use_id"] == "toolu_1"
    assert result["is_error"] is False
    assert result["content"][0]["text"] == "stdout:\n42\nstderr:\n\nexit_code: 0"
    failed = handle_code_execution_tool_use({"id": "toolu_2", "input": {"code": "1 / 0"}}, fresh)
    assert failed["is_error"] is True
    assert "ZeroDivisionError" in failed["content"][0]["text"]


def test_the_gemini_helper_runs_a_function_call_and_refuses_another_name(fresh: Sandbox) -> None:
    from podflare.gemini import podflare_function_declaration, run_function_call

    declaration = podflare_function_declaration()
    name = declaration["name"]
    done = run_function_call({"name": name, "args": {"code": "print(6 * 7)"}}, fresh)
    assert done == {"stdout": "42", "stderr": "", "exit_code": 0}
    assert "unexpected function name 'another'" in run_function_call({"name": "another", "args": {}}, fresh)["error"]


@pytest.mark.timeout(700)
def test_the_langchain_tool_keeps_its_sandbox_or_takes_one_for_each_call(url: str, tmp_path: Path) -> None:
    python = python_with("langchain", CLIENT[0], "langchain-core==1.0.0")
    seen = run_in(python, LANGCHAIN, url, tmp_path)
    assert seen[0] == "stdout:\n42\nstderr:\n\nexit_code: 0"
    assert seen[1].endswith("exit_code: 3")
    assert seen[2].startswith("stdout:\nFalse\n")


@pytest.mark.timeout(700)
def test_the_openai_agents_tool_runs_code_in_one_sandbox(url: str, tmp_path: Path) -> None:
    python = python_with("openai-agents", *CLIENT, "openai-agents==0.24.0")
    seen = run_in(python, OPENAI, url, tmp_path)
    assert seen[0] == {"stdout": "42", "stderr": "", "exit_code": 0}
    assert seen[1]["exit_code"] == 3
