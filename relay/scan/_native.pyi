from collections.abc import Callable, Iterator, Sequence
from typing import Any, final, overload

VERSION: int

def listed(hits: Sequence[Any], alike: int, health: object, /) -> list[tuple[Any, int]]: ...
def weighed(
    hits: Sequence[Any], identifier: object, health: object, implied: dict[str, float], distance: int, /
) -> tuple[list[Any], list[int], list[float]]: ...
def apart(first: list[Any], listed: list[Any], size: int, /) -> list[Any]: ...

@final
class Words(Sequence[bytes]):
    def __new__(cls, padded: bytes) -> Words: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[bytes]: ...
    def among(self, some: tuple[bytes, ...], /) -> list[bytes]: ...
    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...

@final
class Vocabulary:
    def __new__(
        cls,
        terms: int,
        known: Callable[[int], object] | None,
        phrase: Callable[[int], object] | None,
        /,
        *tables: bytes | bytearray | memoryview,
    ) -> Vocabulary: ...
    def found(
        self,
        tokens: Any,
        words: Any,
        data: bytes,
        limit: int,
        hit_type: type[tuple[Any, ...]],
        group: object,
        at: Callable[[Any, int, int], object],
        labelled: Callable[[Any, int, int], object],
        /,
    ) -> tuple[list[Any], list[Any]]: ...
    def terms(self, words: Words, size: int, /) -> set[int]: ...

@final
class Names:
    def __new__(cls, lists: int, /, *tables: bytes | bytearray | memoryview) -> Names: ...
    def __contains__(self, name: object, /) -> bool: ...

@final
class Anchors:
    def __new__(
        cls,
        outline: bytes,
        middle: tuple[tuple[tuple[object, ...], ...], ...],
        glued: dict[bytes, Any],
        stuck: dict[bytes, Any],
        coded: tuple[object, ...],
        begins: bool,
    ) -> Anchors: ...
    def digits(self, data: bytes, lower: bytes, /) -> list[tuple[int, Any]]: ...

@final
class Endings:
    def __new__(cls, endings: tuple[bytes, ...]) -> Endings: ...
    def find(self, words: Words, data: bytes, /) -> list[int]: ...
