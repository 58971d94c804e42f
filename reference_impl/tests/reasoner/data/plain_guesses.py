"""The guess count by its definition, with sets of digits and no trick."""

from .plain_sudoku import allowed

Cells = list[set[int]]


def _peers(side: int) -> list[list[int]]:
    """For each cell those that may not hold its digit, from the rules of the plain solver."""
    cells = range(side * side)

    def meet(one: int, other: int) -> bool:
        grid = bytearray(side * side)
        grid[other] = 1
        return one != other and not allowed(grid, one, 1, side)

    return [[other for other in cells if meet(one, other)] for one in cells]


def _units(side: int, peers: list[list[int]]) -> list[frozenset[int]]:
    """All sets of `side` cells of which any two meet and that share a row, column or box."""
    found = set()
    for cell, others in enumerate(peers):
        for other in others:
            common = frozenset({cell, other} | (set(peers[cell]) & set(peers[other])))
            found |= {common} if len(common) == side else set()
    rows = [frozenset(range(row * side, (row + 1) * side)) for row in range(side)]
    columns = [frozenset(range(column, side * side, side)) for column in range(side)]
    return sorted({*found, *rows, *columns}, key=sorted)


def _singles(cells: Cells, peers: list[list[int]], units: list[frozenset[int]]) -> bool:
    """Naked and hidden singles until nothing changes; False at a contradiction."""
    changed = True
    while changed:
        changed = False
        for cell, digits in enumerate(cells):
            if len(digits) == 1:
                for peer in peers[cell]:
                    if digits <= cells[peer]:
                        cells[peer] -= digits
                        changed = True
        for unit in units:
            for digit in range(1, len(unit) + 1):
                places = [cell for cell in unit if digit in cells[cell]]
                if not places:
                    return False
                if len(places) == 1 and len(cells[places[0]]) > 1:
                    cells[places[0]] = {digit}
                    changed = True
        if not all(cells):
            return False
    return True


def count_guesses(puzzle: bytes) -> tuple[int, int]:
    """(solutions up to 2, branches tried)."""
    side = round(len(puzzle) ** 0.5)
    peers = _peers(side)
    units = _units(side, peers)
    solutions = guesses = 0

    def search(cells: Cells) -> None:
        nonlocal solutions, guesses
        if not _singles(cells, peers, units):
            return
        if all(len(digits) == 1 for digits in cells):
            solutions += 1
            return
        branch = min((len(digits), cell) for cell, digits in enumerate(cells) if len(digits) > 1)[1]
        for digit in sorted(cells[branch]):
            if solutions < 2:
                guesses += 1
                search([{digit} if c == branch else set(each) for c, each in enumerate(cells)])

    search([{digit} if digit else set(range(1, side + 1)) for digit in puzzle])
    return solutions, guesses
