//! Histories as EDN: one map a line with the keys of Jepsen, which its tools and Elle read.
//!
//! ```text
//! {:index 17, :time 1834021934, :type :ok, :process 3, :f :submit, :value ["t1/ab12" "t1.3@40"], :node 2}
//! ```
//! Only what is written here is read: a flat map of keywords, numbers, strings, `nil` and one vector of two.

use crate::history::{Event, Kind};
use std::fmt::Write as _;

/// One line, without its newline.
pub fn line(index: usize, event: &Event) -> String {
    let kind = match event.kind {
        Kind::Invoke => "invoke",
        Kind::Ok => "ok",
        Kind::Fail => "fail",
        Kind::Info => "info",
    };
    let process = event.process.map_or(":nemesis".to_owned(), |process| process.to_string());
    let value = match &event.key {
        Some(key) => format!("[{} {}]", text(Some(key)), text(event.value.as_deref())),
        None => text(event.value.as_deref()),
    };
    let mut out = format!(
        "{{:index {index}, :time {}, :type :{kind}, :process {process}, :f :{}, :value {value}, :node {}",
        event.time, event.f, event.node
    );
    if let Some(error) = &event.error {
        let _ = write!(out, ", :error {}", text(Some(error)));
    }
    out + "}"
}

fn text(value: Option<&str>) -> String {
    let Some(value) = value else { return "nil".to_owned() };
    let mut out = String::from("\"");
    for letter in value.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            letter if letter.is_control() => out.push(' '),
            letter => out.push(letter),
        }
    }
    out + "\""
}

/// A history from its lines.
///
/// # Errors
/// The first line that is none of [`line`]'s.
pub fn parse(document: &str) -> Result<Vec<Event>, String> {
    let numbered = document.lines().enumerate();
    numbered.map(|(nth, line)| event(line).map_err(|why| format!("line {}: {why}", nth + 1))).collect()
}

#[derive(Debug, PartialEq)]
enum Token<'a> {
    Mark(char),
    Word(&'a str),
    Text(String),
}

fn tokens(line: &str) -> Result<Vec<Token<'_>>, String> {
    let mut out = Vec::new();
    let mut rest = line;
    while let Some(letter) = rest.chars().next() {
        if letter == ' ' || letter == ',' {
            rest = &rest[1..];
        } else if "{}[]".contains(letter) {
            out.push(Token::Mark(letter));
            rest = &rest[1..];
        } else if letter == '"' {
            let (text, after) = quoted(&rest[1..])?;
            out.push(Token::Text(text));
            rest = after;
        } else {
            let end = rest.find([' ', ',', '{', '}', '[', ']', '"']).unwrap_or(rest.len());
            out.push(Token::Word(&rest[..end]));
            rest = &rest[end..];
        }
    }
    Ok(out)
}

fn quoted(rest: &str) -> Result<(String, &str), String> {
    let mut out = String::new();
    let mut letters = rest.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((out, &rest[at + 1..])),
            '\\' => match letters.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, letter)) => out.push(letter),
                None => break,
            },
            letter => out.push(letter),
        }
    }
    Err("a string does not end".to_owned())
}

fn event(line: &str) -> Result<Event, String> {
    let mut tokens = tokens(line)?.into_iter();
    if tokens.next() != Some(Token::Mark('{')) {
        return Err("no map".to_owned());
    }
    let mut event = Event {
        time: 0,
        kind: Kind::Info,
        process: None,
        f: String::new(),
        node: 0,
        key: None,
        value: None,
        error: None,
    };
    loop {
        let key = match tokens.next() {
            Some(Token::Mark('}')) => break,
            Some(Token::Word(key)) => key,
            other => return Err(format!("a key was expected, not {other:?}")),
        };
        let value = tokens.next().ok_or("a map does not end")?;
        match (key, value) {
            (":value", Token::Mark('[')) => {
                event.key = word_or_text(tokens.next())?;
                event.value = word_or_text(tokens.next())?;
                if tokens.next() != Some(Token::Mark(']')) {
                    return Err("a value is a vector of two".to_owned());
                }
            }
            (":value", value) => event.value = word_or_text(Some(value))?,
            (":error", value) => event.error = word_or_text(Some(value))?,
            (_, Token::Word(word)) => set(&mut event, key, word)?,
            (key, other) => return Err(format!("{key} is {other:?}")),
        }
    }
    if event.f.is_empty() { Err("no :f".to_owned()) } else { Ok(event) }
}

fn word_or_text(token: Option<Token<'_>>) -> Result<Option<String>, String> {
    match token {
        Some(Token::Word("nil")) => Ok(None),
        Some(Token::Text(text)) => Ok(Some(text)),
        other => Err(format!("a string was expected, not {other:?}")),
    }
}

fn set(event: &mut Event, key: &str, word: &str) -> Result<(), String> {
    let number = || word.parse::<u64>().map_err(|_| format!("{key} is {word}"));
    match key {
        ":index" => drop(number()?),
        ":time" => event.time = number()?,
        ":node" => event.node = number()?,
        ":process" if word == ":nemesis" => event.process = None,
        ":process" => event.process = Some(number()?),
        ":f" => event.f = word.trim_start_matches(':').to_owned(),
        ":type" => {
            event.kind = match word {
                ":invoke" => Kind::Invoke,
                ":ok" => Kind::Ok,
                ":fail" => Kind::Fail,
                ":info" => Kind::Info,
                other => return Err(format!(":type is {other}")),
            }
        }
        other => return Err(format!("{other} is no key of a history")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Event {
        Event {
            time: 1834021934,
            kind: Kind::Ok,
            process: Some(3),
            f: "submit".to_owned(),
            node: 2,
            key: Some("t1/ab12".to_owned()),
            value: Some("t1.3@40".to_owned()),
            error: None,
        }
    }

    #[test]
    fn a_line_has_the_keys_of_jepsen() {
        assert_eq!(
            line(17, &sample()),
            r#"{:index 17, :time 1834021934, :type :ok, :process 3, :f :submit, :value ["t1/ab12" "t1.3@40"], :node 2}"#
        );
        let nemesis = Event { process: None, key: None, value: None, kind: Kind::Info, ..sample() };
        assert!(line(0, &nemesis).contains(":process :nemesis, :f :submit, :value nil"));
    }

    #[test]
    fn what_is_written_is_read() {
        let odd = Some("quote \" backslash \\ brace } comma , line\nend".to_owned());
        let history = [
            sample(),
            Event { kind: Kind::Invoke, value: None, ..sample() },
            Event { kind: Kind::Fail, error: odd.clone(), ..sample() },
            Event { process: None, key: None, value: odd, kind: Kind::Info, ..sample() },
        ];
        let document: Vec<String> = history.iter().enumerate().map(|(nth, event)| line(nth, event)).collect();
        assert_eq!(parse(&document.join("\n")), Ok(history.to_vec()));
    }

    #[test]
    fn what_is_no_line_is_refused() {
        let whole = line(17, &sample());
        for end in 1..whole.len() {
            assert!(parse(&whole[..end]).is_err(), "{}", &whole[..end]);
        }
        assert!(parse("{:f :a, :unknown 1}").is_err());
        assert!(parse("{:f :a, :type :perhaps}").is_err());
    }
}
