//! Reading a stream of events: CSV with a header or NDJSON, from a file or standard input, one row at a time.
//!
//! A row that lacks a column or a number is skipped and counted, never repaired. The text of every value is kept
//! as it was written: it is what the Merkle tree and the compression measure.

use std::io::{BufRead, Read};

use jiff::Timestamp;

/// Longest row read, bytes: one event with a few numbers and some text.
pub const ROW_MAX: usize = 1 << 20;

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Seconds since 1970-01-01 UTC.
    pub seconds: f64,
    /// The chosen columns, as numbers, all finite.
    pub values: Vec<f64>,
    /// The same columns, as written.
    pub texts: Vec<String>,
}

impl Event {
    /// The line this event adds to the bytes that are hashed and compressed: seconds with nine decimals, then the
    /// values as written.
    pub fn line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{:.9}", self.seconds).as_bytes());
        for text in &self.texts {
            out.push(b',');
            out.extend_from_slice(text.as_bytes());
        }
    }
}

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum RowFormat {
    /// Comma-separated, first row is the header.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

/// A row that could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow {
    /// 1-based number of the row among the data rows.
    pub row: u64,
    /// What is wrong with it.
    pub why: String,
}

/// Which columns of a row make an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// The column that holds the time: RFC 3339, or a number of seconds since 1970.
    pub time: String,
    /// The columns that hold the numbers.
    pub values: Vec<String>,
}

enum Rows<R: Read> {
    Csv { reader: csv::Reader<R>, record: csv::StringRecord, time: usize, values: Vec<usize> },
    Ndjson { reader: std::io::BufReader<R>, line: Vec<u8> },
}

/// A stream of events.
pub struct Events<R: Read> {
    rows: Rows<R>,
    columns: Columns,
    row: u64,
}

/// Why a stream cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// A chosen column is not in the header.
    #[error("no column {missing:?}; the header has {have}")]
    NoColumn {
        /// The column asked for.
        missing: String,
        /// The columns there are, comma-separated.
        have: String,
    },
    /// The source could not be read.
    #[error("reading row {row}: {error}")]
    Read {
        /// The row being read.
        row: u64,
        /// What happened.
        error: std::io::Error,
    },
    /// A row is longer than [`ROW_MAX`].
    #[error("row {row} is longer than {ROW_MAX} bytes")]
    TooLong {
        /// The row.
        row: u64,
    },
}

impl<R: Read> Events<R> {
    /// Opens a stream; of a CSV the header is read now.
    ///
    /// # Errors
    /// [`StreamError`] if the header cannot be read or lacks a column.
    pub fn open(source: R, format: RowFormat, columns: Columns) -> Result<Events<R>, StreamError> {
        let rows = match format {
            RowFormat::Ndjson => Rows::Ndjson { reader: std::io::BufReader::new(source), line: Vec::new() },
            RowFormat::Csv => {
                let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(source);
                let header =
                    reader.headers().map_err(|error| StreamError::Read { row: 0, error: error.into() })?;
                let find = |name: &String| {
                    header.iter().position(|have| have.trim() == name).ok_or_else(|| StreamError::NoColumn {
                        missing: name.clone(),
                        have: header.iter().collect::<Vec<_>>().join(", "),
                    })
                };
                let time = find(&columns.time)?;
                let values = columns.values.iter().map(find).collect::<Result<_, _>>()?;
                Rows::Csv { reader, record: csv::StringRecord::new(), time, values }
            }
        };
        Ok(Events { rows, columns, row: 0 })
    }

    /// The next row: an event, or why it is none. `None` at the end.
    ///
    /// # Errors
    /// [`StreamError`] if the source fails.
    pub fn next_row(&mut self) -> Result<Option<Result<Event, BadRow>>, StreamError> {
        let row = self.row + 1;
        let parsed = match &mut self.rows {
            Rows::Csv { reader, record, time, values } => match reader.read_record(record) {
                Ok(false) => return Ok(None),
                Ok(true) => from_csv(record, *time, values, &self.columns),
                Err(error) if error.is_io_error() => {
                    return Err(StreamError::Read { row, error: error.into() });
                }
                Err(error) => Err(error.to_string()),
            },
            Rows::Ndjson { reader, line } => {
                line.clear();
                let limit = ROW_MAX as u64 + 1;
                let count = reader
                    .by_ref()
                    .take(limit)
                    .read_until(b'\n', line)
                    .map_err(|error| StreamError::Read { row, error })?;
                if count == 0 {
                    return Ok(None);
                }
                if line.len() > ROW_MAX {
                    return Err(StreamError::TooLong { row });
                }
                from_json(line, &self.columns)
            }
        };
        self.row = row;
        Ok(Some(parsed.map_err(|why| BadRow { row, why })))
    }
}

fn from_csv(
    record: &csv::StringRecord,
    time: usize,
    values: &[usize],
    columns: &Columns,
) -> Result<Event, String> {
    let cell = |at: usize, name: &str| record.get(at).map(str::trim).ok_or_else(|| format!("no {name}"));
    let seconds =
        instant(cell(time, &columns.time)?).ok_or_else(|| format!("{} is no time", columns.time))?;
    let mut event = Event { seconds, values: Vec::new(), texts: Vec::new() };
    for (&at, name) in values.iter().zip(&columns.values) {
        let text = cell(at, name)?;
        event.values.push(finite(text).ok_or_else(|| format!("{name} is no number"))?);
        event.texts.push(text.to_owned());
    }
    Ok(event)
}

fn from_json(line: &[u8], columns: &Columns) -> Result<Event, String> {
    use serde_json::Value;
    let object: serde_json::Map<String, Value> =
        serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let text = |name: &String| match object.get(name) {
        Some(Value::String(text)) => Ok(text.trim().to_owned()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        _ => Err(format!("no {name}")),
    };
    let seconds = instant(&text(&columns.time)?).ok_or_else(|| format!("{} is no time", columns.time))?;
    let mut event = Event { seconds, values: Vec::new(), texts: Vec::new() };
    for name in &columns.values {
        let text = text(name)?;
        event.values.push(finite(&text).ok_or_else(|| format!("{name} is no number"))?);
        event.texts.push(text);
    }
    Ok(event)
}

fn finite(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|value| value.is_finite())
}

/// RFC 3339 with a zone, or seconds since 1970 as a decimal number.
fn instant(text: &str) -> Option<f64> {
    if let Some(seconds) = finite(text) {
        return Some(seconds);
    }
    let stamp: Timestamp = text.parse().ok()?;
    Some(stamp.as_nanosecond() as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Columns {
        Columns { time: "time".into(), values: vec!["lat".into(), "mag".into()] }
    }

    fn all(format: RowFormat, text: &str) -> Vec<Result<Event, BadRow>> {
        let mut events = Events::open(text.as_bytes(), format, columns()).unwrap();
        let mut rows = Vec::new();
        while let Some(row) = events.next_row().unwrap() {
            rows.push(row);
        }
        rows
    }

    #[test]
    fn csv_takes_columns_in_any_order_and_counts_bad_rows() {
        let rows = all(
            RowFormat::Csv,
            "mag,place,time,lat\n5,\"a, b\",2011-01-01T00:02:31.960Z,27.247\n,x,2011-01-01T00:00:00Z,1\n4,x,then,1\n4\n\
             1e400,x,0,1\n5.10,x,1.5,-0\n",
        );
        let first = rows[0].as_ref().unwrap();
        assert_eq!((first.seconds, first.values.as_slice()), (1_293_840_151.96, [27.247, 5.0].as_slice()));
        let mut line = Vec::new();
        first.line(&mut line);
        assert_eq!(String::from_utf8(line).unwrap(), "1293840151.960000038,27.247,5");
        let why: Vec<_> = rows[1..5].iter().map(|row| row.as_ref().unwrap_err().why.as_str()).collect();
        assert_eq!(why, ["mag is no number", "time is no time", "no time", "mag is no number"]);
        assert_eq!(rows[3].as_ref().unwrap_err().row, 4);
        assert_eq!(rows[5].as_ref().unwrap().texts, ["-0", "5.10"]);
    }

    #[test]
    fn ndjson_reads_the_same_events() {
        let rows = all(
            RowFormat::Ndjson,
            "{\"time\":\"2011-01-01T00:02:31.960Z\",\"lat\":27.247,\"mag\":\"5\"}\n[]\n{\"time\":1,\"lat\":null,\"mag\":1}\n",
        );
        assert_eq!(rows[0].as_ref().unwrap().texts, ["27.247", "5"]);
        assert!(rows[1].is_err() && rows[2].is_err());
    }

    #[test]
    fn a_missing_column_is_named() {
        let error = Events::open("a,b\n1,2\n".as_bytes(), RowFormat::Csv, columns()).err().unwrap();
        assert_eq!(error.to_string(), "no column \"time\"; the header has a, b");
    }

    #[test]
    fn an_endless_line_is_refused() {
        let text = "x".repeat(ROW_MAX + 10);
        let mut events = Events::open(text.as_bytes(), RowFormat::Ndjson, columns()).unwrap();
        assert!(matches!(events.next_row(), Err(StreamError::TooLong { row: 1 })));
    }
}
