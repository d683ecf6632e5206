"""Runs a .bat file as cmd would, as far as this project's files go: what they set, where they jump, what they start.

No program is run: the machine is told by `Windows`. Percent signs are replaced before a line is read, as cmd does it;
of a block in parentheses before its first line.
"""

import ntpath
import re

NOT_FOUND = 9009
"""What cmd makes of a program that is not there."""


class Windows:
    """A machine.

    Args:
        files: paths that are there. programs: name (or path) -> exit code, or a function of the arguments. answers:
        what is typed at `set /p`. variables: of the environment. double_clicked: whether cmd was started for the
        file alone.

    Attributes:
        started: [program, argument, …] of everything that was run. said: what went to standard error. paused: whether
        it waited for a key. folder: the working folder at the end.
    """

    def __init__(self, files=(), programs=None, answers=(), variables=None, double_clicked=False):
        self.files, self.programs = {path.lower() for path in files}, programs or {}
        self.answers, self.variables = list(answers), dict(variables or {})
        self.double_clicked = double_clicked
        self.started, self.said, self.paused, self.folder = [], [], False, "C:\\somewhere"

    def run(self, path, place, *arguments):
        """Run the .bat file `path`, which lies at the Windows path `place` -> its exit code."""
        return _Batch(self, path.read_text(encoding="ascii"), place, list(arguments)).main()

    def start(self, words):
        self.started.append(words)
        found = self.programs.get(words[0], NOT_FOUND)
        return found(words[1:]) if callable(found) else found


class _Ended(Exception):
    pass


class _Batch:
    def __init__(self, machine, text, place, arguments):
        self.machine, self.place, self.arguments, self.code = machine, place, arguments, 0
        self.all = " ".join(_quoted(word) for word in arguments)
        self.lines = [line.strip() for line in text.splitlines()]
        self.labels = {line[1:].lower(): number for number, line in enumerate(self.lines) if line.startswith(":")}

    def main(self):
        try:
            self._from(0)
        except _Ended:
            pass
        return self.code

    def _from(self, number):
        """Run on from a line; gives back where `exit /b` of a called label ends it."""
        while number < len(self.lines):
            line = self._expanded(self.lines[number])
            number += 1
            if line.endswith("("):
                end = next(n for n in range(number, len(self.lines)) if self.lines[n] == ")")
                block = [self._expanded(one) for one in self.lines[number:end]]
                number = end + 1
                if self._holds(line[:-1].strip()[3:])[0]:
                    for one in block:
                        self._do(one)
                continue
            jump = self._do(line)
            if jump is not None:
                number = jump

    def _do(self, line):
        word = line.split(" ")[0].lower()
        if not line or line.startswith(":") or word in ("@echo", "rem", "setlocal"):
            return None
        if word == "if":
            holds, rest = self._holds(line[3:])
            return self._do(rest) if holds else None
        if word == "goto":
            return self.labels[line.split()[1].lstrip(":").lower()]
        if word == "call":
            try:
                self._from(self.labels[line.split()[1].lstrip(":").lower()])
            except _Ended:
                pass
            return None
        if word == "exit":
            self.code = int(line.split()[2])
            raise _Ended
        if word == "shift":  # without /1 it moves the file's own name on too
            if line.split()[1:] != ["/1"]:
                self.place = self.arguments[0] if self.arguments else ""
            self.arguments = self.arguments[1:]
        elif word == "cd":
            self.machine.folder = line.split('"')[1]
        elif word == "set":
            self._set(line)
        elif word == "echo":
            self._echo(line[5:])
        else:
            self._start(line)
        return None

    def _holds(self, text):
        """(whether a condition holds, what stands after it)."""
        negated = text.lower().startswith("not ")
        text = text[4:] if negated else text
        kinds = (
            (r"defined (\w+)\s*(.*)", lambda name: bool(self.machine.variables.get(name))),
            (r'exist "([^"]*)"\s*(.*)', lambda path: ntpath.normpath(path).lower() in self.machine.files),
            (r"errorlevel (\d+)\s*(.*)", lambda least: self.code >= int(least)),
            (r'(?:/i )?"([^"]*"=="[^"]*)"\s*(.*)',
             lambda both: len({part.lower() for part in both.split('"=="')}) == 1),
        )
        for pattern, holds in kinds:
            found = re.fullmatch(pattern, text, re.IGNORECASE)
            if found:
                return holds(found.group(1)) != negated, found.group(2)
        raise AssertionError(f"a condition that is not known here: {text}")

    def _set(self, line):
        asked = re.fullmatch(r'set /p "(\w+)=.*"', line, re.IGNORECASE)
        if asked:
            typed = self.machine.answers.pop(0)
            if typed:  # an empty answer leaves the variable as it was
                self.machine.variables[asked.group(1)] = typed
            return
        name, value = re.fullmatch(r'set "(\w+)=(.*)"', line).groups()
        self.machine.variables[name] = value

    def _echo(self, rest):
        if "| find" in rest:
            if self.machine.double_clicked:
                self.machine.paused = True
        elif rest.endswith("1>&2"):
            self.machine.said.append(rest[:-4].strip())

    def _start(self, line):
        line = re.sub(r"\s*2?>nul", "", line)
        self.code = self.machine.start(words(line))

    def _expanded(self, line):
        def variable(match):
            value = "%" if match.group(1) == "errorlevel" else self.machine.variables.get(match.group(1), "")
            value = str(self.code) if match.group(1) == "errorlevel" else value
            changed = match.group(2)
            if changed == ':"=':
                return value.replace('"', "")
            return value[slice(*(int(part) if part else None for part in re.fullmatch(
                r":~(-?\d+),?(-?\d*)", changed).groups()))] if changed else value

        def argument(match):
            number = int(match.group(2))
            if number == 0:
                return self.place
            value = self.arguments[number - 1] if number <= len(self.arguments) else ""
            return value if match.group(1) else _quoted(value)

        if line.lower().startswith("rem"):
            return ""
        line = line.replace("%~dp0", ntpath.dirname(self.place) + "\\").replace("%~nx0", ntpath.basename(self.place))
        line = line.replace("%*", self.all)
        line = re.sub(r"%(~?)(\d)", argument, line)
        return re.sub(r'%(\w+)(:"=|:~-?\d+(?:,-?\d+)?)?%', variable, line).strip()


def _quoted(word):
    return f'"{word}"' if " " in word else word


def words(line):
    """The words of a command line, by the rules of Microsoft's C runtime: `\\"` is a quote that is part of a word."""
    words, word, quoted, number = [], None, False, 0
    while number < len(line):
        slashes = len(line) - number - len(line[number:].lstrip("\\"))
        if slashes:
            number += slashes
            escapes = line[number:number + 1] == '"'
            word = (word or "") + "\\" * (slashes // 2 if escapes else slashes)
            if escapes and slashes % 2:
                word, number = word + '"', number + 1
            continue
        sign, number = line[number], number + 1
        if sign == '"':
            word, quoted = word or "", not quoted
        elif sign == " " and not quoted:
            words, word = (words if word is None else [*words, word]), None
        else:
            word = (word or "") + sign
    return words if word is None else [*words, word]
