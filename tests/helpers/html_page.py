"""Reading a report's HTML in tests."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """Checks that tags close in order, and gathers attributes and text."""

    EMPTY = {"meta", "img", "br", "link", "input", "hr"}

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.seen, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(text)

    def tags(self, name):
        return [attributes for tag, attributes in self.seen if tag == name]

    def stands_alone(self):
        """Whether everything it shows or plays is inside it."""
        loaded = ("src", "href", "srcset", "data", "action", "poster")
        return all(attributes[name].startswith("data:") for _, attributes in self.seen for name in loaded
                   if name in attributes)
