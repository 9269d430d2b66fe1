//! Enums whose variants have a name on command lines and in documents.

use crate::{Error, ErrorKind};

/// Gives an enum of plain variants `ALL`, `name`, `Display`, which writes the name, and `FromStr`, which reads it.
#[doc(hidden)]
#[macro_export]
macro_rules! named {
    ($what:literal, $type:ident { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl $type {
            /// All of them.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// Its name on command lines and in documents.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }
        }

        impl ::std::fmt::Display for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(self.name())
            }
        }

        /// # Errors
        /// [`ErrorKind::Setting`]($crate::ErrorKind::Setting) for any other name.
        impl ::std::str::FromStr for $type {
            type Err = $crate::Error;

            fn from_str(name: &str) -> $crate::Result<Self> {
                let found = Self::ALL.into_iter().find(|one| one.name() == name);
                found.ok_or_else(|| $crate::names::unknown($what, name, &Self::ALL.map(Self::name)))
            }
        }
    };
}

/// What [`named!`](crate::named) says of a name that is none.
pub fn unknown(what: &str, name: &str, all: &[&str]) -> Error {
    Error::new(ErrorKind::Setting, format!("unknown {what} `{name}`, expected one of {}", all.join(", ")))
}

#[cfg(test)]
#[expect(unreachable_pub, reason = "what the macro makes is public")]
mod tests {
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub enum Fruit {
        Apple,
        Pear,
    }

    crate::named!("fruit", Fruit { Apple = "apple", Pear = "pear" });

    #[test]
    fn names_are_written_and_read() {
        assert_eq!(Fruit::ALL.map(|fruit| fruit.to_string().parse::<Fruit>().unwrap()), Fruit::ALL);
        let error = "plum".parse::<Fruit>().unwrap_err();
        assert_eq!(error.to_string(), "unknown fruit `plum`, expected one of apple, pear");
    }
}
