"""What a solve did, and why."""

from ._explain import explain as explain
