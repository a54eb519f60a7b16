#!/usr/bin/env python3
"""An MCP server of which each tool takes one command line, as teams write them for their own use with FastMCP.

    command_line_server.py

Its tools run kubectl, helm and argocd through a shell, find them in PATH, and annotate nothing. Over stdio.
"""

import shlex
import subprocess

from mcp.server.fastmcp import FastMCP
from mcp.server.fastmcp.exceptions import ToolError

server = FastMCP("k8s-command-line")


def run(program, command):
    """Runs a line of `program`, with what it is piped into, and returns what it prints."""
    command = command.strip()
    if shlex.split(command)[:1] != [program]:
        command = f"{program} {command}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise ToolError(f"exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout or done.stderr


@server.tool()
def k8s_kubectl_execute(command: str) -> str:
    """Execute a kubectl command against the cluster, e.g. "kubectl get pods -n default". Pipes are allowed."""
    return run("kubectl", command)


@server.tool()
def k8s_helm_execute(command: str) -> str:
    """Execute a helm command against the cluster, e.g. "helm list -A"."""
    return run("helm", command)


@server.tool()
def k8s_argocd_execute(command: str) -> str:
    """Execute an argocd command, e.g. "argocd app list"."""
    return run("argocd", command)


if __name__ == "__main__":
    server.run()
