//! HTML that cannot be broken by what it shows: tags and names of attributes are written in this code, everything else is
//! escaped.

use std::fmt::Display;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Names of attributes with their values.
pub(super) type Attributes<'a> = &'a [(&'static str, &'a dyn Display)];

/// A piece of HTML.
#[derive(Debug, Clone, Default)]
pub(super) struct Html(String);

impl Html {
    /// An element with what `inner` puts into it.
    pub(super) fn element(&mut self, name: &'static str, attributes: Attributes, inner: impl FnOnce(&mut Self)) {
        self.tag(name, attributes, ">");
        inner(self);
        self.0.extend(["</", name, ">\n"]);
    }

    /// An element with text alone.
    pub(super) fn line(&mut self, name: &'static str, text: &str) {
        self.element(name, &[], |html| html.text(text));
    }

    /// An element without content: `img`, `meta`, or a shape in SVG.
    pub(super) fn void(&mut self, name: &'static str, attributes: Attributes) {
        self.tag(name, attributes, "/>");
    }

    /// Text.
    pub(super) fn text(&mut self, text: &str) {
        escape(text, &mut self.0);
    }

    /// What is written in this code: the style sheet, the document type.
    pub(super) fn fixed(&mut self, markup: &'static str) {
        self.0.push_str(markup);
    }

    /// A PNG, inside the document.
    pub(super) fn png(&mut self, png: &[u8], description: &str) {
        let source = format!("data:image/png;base64,{}", STANDARD.encode(png));
        self.void("img", &[("src", &source), ("alt", &description)]);
    }

    /// A table: a caption, a row of titles, and rows whose first cell is a title as well.
    pub(super) fn table(&mut self, caption: &str, titles: &[String], rows: &[Vec<String>]) {
        let body = |html: &mut Self| {
            html.line("caption", caption);
            html.element("thead", &[], |html| {
                html.element("tr", &[], |html| {
                    titles.iter().for_each(|title| html.element("th", &[("scope", &"col")], |html| html.text(title)));
                });
            });
            html.element("tbody", &[], |html| rows.iter().for_each(|row| html.row(row)));
        };
        self.element("div", &[("class", &"wide")], |html| html.element("table", &[], body));
    }

    fn row(&mut self, cells: &[String]) {
        self.element("tr", &[], |html| {
            for (index, cell) in cells.iter().enumerate() {
                match index {
                    0 => html.element("th", &[("scope", &"row")], |html| html.text(cell)),
                    _ => html.line("td", cell),
                }
            }
        });
    }

    /// Says that something is missing, and what would give it.
    pub(super) fn missing(&mut self, text: &str) {
        self.element("p", &[("class", &"missing")], |html| html.text(text));
    }

    /// Another piece.
    pub(super) fn append(&mut self, other: Self) {
        self.0.push_str(&other.0);
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }

    fn tag(&mut self, name: &'static str, attributes: Attributes, end: &str) {
        self.0.extend(["<", name]);
        for (attribute, value) in attributes {
            self.0.extend([" ", attribute, "=\""]);
            escape(&value.to_string(), &mut self.0);
            self.0.push('"');
        }
        self.0.push_str(end);
    }
}

/// Appends text so that it means itself, between tags and inside of quoted attributes. Control characters that HTML does
/// not allow become U+FFFD.
fn escape(text: &str, to: &mut String) {
    for letter in text.chars() {
        match letter {
            '&' => to.push_str("&amp;"),
            '<' => to.push_str("&lt;"),
            '>' => to.push_str("&gt;"),
            '"' => to.push_str("&quot;"),
            '\'' => to.push_str("&#39;"),
            '\n' | '\t' => to.push(letter),
            letter if letter.is_control() => to.push(char::REPLACEMENT_CHARACTER),
            letter => to.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_means_itself_wherever_it_stands() {
        let nasty = "<script>alert(\"x\")</script> & 'y'\u{0}";
        let escaped = "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; &#39;y&#39;\u{fffd}";
        let mut html = Html::default();
        html.element("p", &[("title", &nasty)], |html| html.text(nasty));
        html.table(nasty, &[nasty.into()], &[vec![nasty.into(), nasty.into()]]);
        html.missing(nasty);
        html.png(b"png", nasty);
        let html = html.into_string();
        assert!(html.starts_with(&format!("<p title=\"{escaped}\">{escaped}</p>")), "{html}");
        assert_eq!(html.matches(escaped).count(), 8);
        assert!(!html.contains("<script") && html.contains("src=\"data:image/png;base64,cG5n\""));
        assert!(html.contains(&format!("<th scope=\"row\">{escaped}</th>\n<td>{escaped}</td>")));
    }
}
