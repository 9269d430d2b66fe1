//! Text in the character sets of DICOM (PS3.5, 6.1; PS3.3, C.12.1.1.2) to Unicode. The library decodes one character set a
//! file; this one follows the escape sequences between several, and knows all that the standard names.

use dicom_encoding::text::{SpecificCharacterSet, TextCodec};

const ESCAPE: u8 = 0x1B;

/// A set of characters that bytes stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
    Ascii,
    /// JIS X 0201: half-width katakana.
    Katakana,
    /// One byte a character, by the name that the library knows it by.
    Single(&'static str),
    /// ISO 8859-9, which the library does not know.
    Latin5,
    /// ISO 8859-15, likewise.
    Latin9,
    /// Two bytes a character: the library's name, and the escape sequence that its decoder wants.
    Double(&'static str, &'static [u8]),
}

const KANJI: Set = Set::Double("ISO_IR 87", b"\x1b$B");
const SUPPLEMENTARY_KANJI: Set = Set::Double("ISO_IR 87", b"\x1b$(D");
const KOREAN: Set = Set::Double("ISO_IR 149", b"");
const CHINESE: Set = Set::Double("GBK", b"");

/// Escape sequences without their first byte, which half of the code they change (`true`: bytes from 0x80), and to what.
const ESCAPES: [(&[u8], bool, Set); 18] = [
    (b"(B", false, Set::Ascii),
    // Differs from ASCII in the signs of yen and overline, which stand for backslash and tilde in DICOM.
    (b"(J", false, Set::Ascii),
    (b")I", true, Set::Katakana),
    (b"-A", true, Set::Single("ISO_IR 100")),
    (b"-B", true, Set::Single("ISO_IR 101")),
    (b"-C", true, Set::Single("ISO_IR 109")),
    (b"-D", true, Set::Single("ISO_IR 110")),
    (b"-F", true, Set::Single("ISO_IR 126")),
    (b"-G", true, Set::Single("ISO_IR 127")),
    (b"-H", true, Set::Single("ISO_IR 138")),
    (b"-L", true, Set::Single("ISO_IR 144")),
    (b"-M", true, Set::Latin5),
    (b"-T", true, Set::Single("ISO_IR 166")),
    (b"-b", true, Set::Latin9),
    (b"$B", false, KANJI),
    (b"$(D", false, SUPPLEMENTARY_KANJI),
    (b"$)C", true, KOREAN),
    (b"$)A", true, CHINESE),
];

/// What a Specific Character Set says, understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charset {
    /// The whole text is in one encoding, without escape sequences.
    Whole(&'static str),
    /// Escape sequences may change what bytes stand for; to begin with, those from 0x80 on stand for this.
    Extended(Option<Set>),
    /// Nothing is said, so that only ASCII may be there. What else is there is taken for Latin-1.
    Default,
}

impl Charset {
    /// Of the values of the attribute Specific Character Set, one string with backslashes; `None` where one is unknown.
    pub(super) fn parse(terms: &str) -> Option<Self> {
        let mut all =
            terms.split('\\').map(|term| term.trim_matches([' ', '\0'])).map(number).collect::<Option<Vec<_>>>()?;
        // Encodings of a whole text exclude all others.
        if let Some(whole) = all.iter().find_map(|set| if let Number::Whole(name) = set { Some(*name) } else { None }) {
            return Some(Self::Whole(whole));
        }
        let first = all.remove(0);
        // Some writers leave the escape sequence to the one other set out.
        let mut others = all.iter().filter_map(|set| if let Number::Upper(set) = set { Some(*set) } else { None });
        let only = others.next().filter(|_| others.next().is_none());
        Some(match first {
            Number::None if all.is_empty() => Self::Default,
            Number::Upper(set) => Self::Extended(Some(set)),
            Number::None | Number::Whole(_) | Number::Lower => Self::Extended(only),
        })
    }

    /// The text of stored bytes, and whether Latin-1 had to be assumed; `None` where they are none. `person` says that it is
    /// a name, whose parts are texts of their own.
    pub(super) fn decode(self, bytes: &[u8], person: bool) -> Option<(String, bool)> {
        let end = bytes.iter().rposition(|byte| !matches!(byte, b' ' | 0)).map_or(0, |last| last + 1);
        let bytes = &bytes[..end];
        match self {
            Self::Whole("ISO_IR 192") => std::str::from_utf8(bytes).ok().map(|text| (text.to_owned(), false)),
            Self::Whole(name) => {
                let codec = SpecificCharacterSet::from_code(name)?;
                let text = codec.decode(bytes).ok()?;
                // The library writes numbers for what it cannot decode.
                (codec.encode(&text).ok()? == bytes).then_some((text, false))
            }
            Self::Default if bytes.is_ascii() && !bytes.contains(&ESCAPE) => {
                Some((bytes.iter().map(|&byte| char::from(byte)).collect(), false))
            }
            Self::Default => extended(bytes, Some(Set::Single("ISO_IR 100")), person).map(|text| (text, true)),
            Self::Extended(upper) => extended(bytes, upper, person).map(|text| (text, false)),
        }
    }
}

/// What one value of Specific Character Set stands for.
enum Number {
    None,
    Upper(Set),
    /// Only reached by escape sequences, in the lower half.
    Lower,
    Whole(&'static str),
}

fn number(term: &str) -> Option<Number> {
    let register = term.strip_prefix("ISO_IR ").or_else(|| term.strip_prefix("ISO 2022 IR "));
    let register = register.or_else(|| term.strip_prefix("ISO_IR_")).unwrap_or(term);
    Some(match register {
        "" | "6" => Number::None,
        "13" => Number::Upper(Set::Katakana),
        "58" => Number::Upper(CHINESE),
        "87" | "159" => Number::Lower,
        "100" => Number::Upper(Set::Single("ISO_IR 100")),
        "101" => Number::Upper(Set::Single("ISO_IR 101")),
        "109" => Number::Upper(Set::Single("ISO_IR 109")),
        "110" => Number::Upper(Set::Single("ISO_IR 110")),
        "126" => Number::Upper(Set::Single("ISO_IR 126")),
        "127" => Number::Upper(Set::Single("ISO_IR 127")),
        "138" => Number::Upper(Set::Single("ISO_IR 138")),
        "144" => Number::Upper(Set::Single("ISO_IR 144")),
        "148" => Number::Upper(Set::Latin5),
        "149" => Number::Upper(KOREAN),
        "166" => Number::Upper(Set::Single("ISO_IR 166")),
        "192" => Number::Whole("ISO_IR 192"),
        "203" => Number::Upper(Set::Latin9),
        "GB18030" => Number::Whole("GB18030"),
        "GBK" => Number::Whole("GBK"),
        _ => return None,
    })
}

fn extended(bytes: &[u8], initial: Option<Set>, person: bool) -> Option<String> {
    let (mut lower, mut upper) = (Set::Ascii, initial);
    let mut text = String::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte == ESCAPE {
            let rest = &bytes[at + 1..];
            let (sequence, high, set) = ESCAPES.into_iter().find(|(sequence, ..)| rest.starts_with(sequence))?;
            if high {
                upper = Some(set)
            } else {
                lower = set
            }
            at += 1 + sequence.len();
            continue;
        }
        let set = if byte < 0x80 { lower } else { upper? };
        // Controls and space are the same in every set.
        let control = byte <= b' ';
        if set == Set::Ascii || control {
            text.push(char::from(byte));
            // What is after these begins anew (PS3.5, 6.1.2.5.3).
            if matches!(byte, b'\\' | b'\r' | b'\n' | 0x0C | b'\t') || person && matches!(byte, b'^' | b'=') {
                (lower, upper) = (Set::Ascii, initial.or(upper));
            }
            at += 1;
            continue;
        }
        let size = if matches!(set, Set::Double(..)) { 2 } else { 1 };
        text += &set.character(bytes.get(at..at + size)?)?;
        at += size;
    }
    Some(text)
}

impl Set {
    /// One character.
    fn character(self, bytes: &[u8]) -> Option<String> {
        let byte = *bytes.first()?;
        let (name, stored) = match self {
            Self::Ascii => return Some(char::from(byte).to_string()),
            Self::Katakana => {
                let offset = (0xA1..=0xDF).contains(&byte).then(|| u32::from(byte - 0xA1))?;
                return char::from_u32(0xFF61 + offset).map(String::from);
            }
            Self::Latin5 => return Some(latin(byte, b"\xD0\xDD\xDE\xF0\xFD\xFE", "ĞİŞğış")),
            Self::Latin9 => return Some(latin(byte, b"\xA4\xA6\xA8\xB4\xB8\xBC\xBD\xBE", "€ŠšŽžŒœŸ")),
            Self::Single(name) => (name, bytes.to_vec()),
            Self::Double(name, escape) => {
                let second = *bytes.get(1)?;
                // Both bytes are in the same half, within 94 places.
                if byte & 0x80 != second & 0x80 || ![byte, second].iter().all(|b| (0x21..=0x7E).contains(&(b & 0x7F))) {
                    return None;
                }
                (name, [escape, bytes].concat())
            }
        };
        let text = SpecificCharacterSet::from_code(name)?.decode(&stored).ok()?;
        // The library writes a backslash and numbers for what it cannot decode.
        (!text.contains('\\') && !text.contains('\u{FFFD}') && !text.is_empty()).then_some(text)
    }
}

/// Latin-1 but for some bytes.
fn latin(byte: u8, other: &[u8], characters: &str) -> String {
    let place = other.iter().position(|&changed| changed == byte);
    place.and_then(|place| characters.chars().nth(place)).unwrap_or(char::from(byte)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of PS3.5, annexes H to K, and one of each single-byte set; Python's codecs give the same (the project's
    /// tests compare them through pydicom).
    #[test]
    fn names_of_the_standard_s_examples() {
        for (terms, bytes, expected) in [
            ("", &b"Buc^Jerome "[..], "Buc^Jerome"),
            ("ISO_IR 100", b"Buc^J\xE9r\xF4me", "Buc^Jérôme"),
            ("ISO_IR 144", b"\xBB\xEE\xDACe\xDC\xD1yp\xD3", "ЛюкCeмбypг"),
            ("ISO_IR 148", b"\xDEahin^I\xFE\xFDk \xD0", "Şahin^Işık Ğ"),
            ("ISO_IR 203", b"\xBCuvre^\xA4", "Œuvre^€"),
            ("ISO_IR 13", b"\xD4\xCF\xC0\xDE^\xC0\xDB\xB3", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
            (
                "\\ISO 2022 IR 87",
                b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
                "Yamada^Tarou=山田^太郎=やまだ^たろう",
            ),
            (
                "ISO 2022 IR 13\\ISO 2022 IR 87",
                b"\xD4\xCF\xC0\xDE^\xC0\xDB\xB3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J",
                "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎",
            ),
            (
                "\\ISO 2022 IR 149",
                b"Hong^Gildong=\x1b$)C\xFB\xF3^\x1b$)C\xD1\xCE\xD4\xD7=\x1b$)C\xC8\xAB^\x1b$)C\xB1\xE6\xB5\xBF",
                "Hong^Gildong=洪^吉洞=홍^길동",
            ),
            ("\\ISO 2022 IR 58", b"Zhang^XiaoDong=\x1b$)A\xD5\xC5^\x1b$)A\xD0\xA1\xB6\xAB=", "Zhang^XiaoDong=张^小东="),
            ("\\ISO 2022 IR 58", b"Zhang^XiaoDong=\xD5\xC5^\xD0\xA1\xB6\xAB", "Zhang^XiaoDong=张^小东"),
            ("ISO_IR 192", "Wang^XiaoDong=王^小東".as_bytes(), "Wang^XiaoDong=王^小東"),
            ("GB18030", b"Wang^XiaoDong=\xCD\xF5^\xD0\xA1\xB6\xAB", "Wang^XiaoDong=王^小东"),
        ] {
            let found = Charset::parse(terms).unwrap().decode(bytes, true);
            assert_eq!(found, Some((expected.to_owned(), false)), "{terms}");
        }
    }

    #[test]
    fn what_is_no_text_is_none() {
        assert_eq!(Charset::parse("ISO_IR 999"), None);
        for (terms, bytes) in [
            ("ISO_IR 192", &b"\xFF"[..]),
            ("\\ISO 2022 IR 87", b"\x1b$B;"),
            ("\\ISO 2022 IR 87", b"\xE9"),
            ("\\ISO 2022 IR 87", b"\x1b%G"),
            ("\\ISO 2022 IR 149", b"\x1b$)C\xFB"),
            ("ISO_IR 13", b"\xF0"),
            ("GB18030", b"\xCD"),
        ] {
            assert_eq!(Charset::parse(terms).unwrap().decode(bytes, true), None, "{terms} {bytes:?}");
        }
        let found = Charset::parse("").unwrap().decode(b"M\xFCller", true);
        assert_eq!(found, Some(("Müller".to_owned(), true)));
    }
}
