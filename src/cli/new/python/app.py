"""A tool that greets."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.greeting import GreetError_NoName, GreetError_TooLong

# Longest name, in bytes.
NAME_BYTES = 100


class Greeting(exports.Greeting):
    def greet(self, name: str) -> str:
        length = len(name.encode())
        if length == 0:
            raise Err(GreetError_NoName())
        if length > NAME_BYTES:
            raise Err(GreetError_TooLong(length))
        return f"Hello, {name}!"
