//! What is wrong with an expression, and where; how that is shown.

/// Problems of one expression that are shown one by one; of more, only the number is told.
const SHOWN_MAX: usize = 100;
/// Bytes of a line that is shown below a problem.
const LINE_BYTES_MAX: usize = 16_384;

/// Where a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Nowhere: the expression as a whole is wrong.
    Nowhere,
    /// Before the first character: at what stands for something that the source lacks.
    Before,
    /// At a character, counted from the start of the source.
    At(usize),
}

/// An error, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub message: String,
}

impl Problem {
    /// A problem at a character.
    pub fn at(at: usize, message: impl Into<String>) -> Problem {
        Problem { place: Place::At(at), message: message.into() }
    }
}

/// The lines of a source, and where they start. A source without characters has none.
struct Lines {
    lines: Vec<Vec<char>>,
    starts: Vec<usize>,
}

impl Lines {
    fn new(source: &str) -> Lines {
        if source.is_empty() {
            return Lines { lines: Vec::new(), starts: Vec::new() };
        }
        let lines: Vec<Vec<char>> = source.split('\n').map(|line| line.chars().collect()).collect();
        let mut start = 0;
        let mut starts = Vec::with_capacity(lines.len());
        for line in &lines {
            starts.push(start);
            start += line.len() + 1;
        }
        Lines { lines, starts }
    }

    /// Line, from one, and column, from zero; they are less than that for what is at no character.
    fn position(&self, place: Place) -> (i64, i64) {
        match place {
            Place::Nowhere => (-1, -1),
            Place::Before => (1, -1),
            Place::At(at) => match self.starts.partition_point(|start| *start <= at) {
                0 => (1, -1),
                line => (line as i64, (at - self.starts[line - 1]) as i64),
            },
        }
    }

    fn shown(&self, (line, column): (i64, i64), message: &str) -> String {
        let mut out = format!("ERROR: <input>:{line}:{}: {message}", column + 1);
        let found = usize::try_from(line - 1).ok().and_then(|index| self.lines.get(index));
        if let Some(chars) = found
            && chars.iter().map(|c| c.len_utf8()).sum::<usize>() <= LINE_BYTES_MAX
        {
            // Below what is wide, the marks are wide too.
            let wide = |c: &char| c.len_utf8() > 1;
            let column = usize::try_from(column).unwrap_or(0);
            let text: String = chars.iter().map(|c| if *c == '\t' { ' ' } else { *c }).collect();
            let dots: String = chars.iter().take(column).map(|c| if wide(c) { '．' } else { '.' }).collect();
            let mark = if chars.get(column).is_some_and(wide) { '＾' } else { '^' };
            out.push_str(&format!("\n | {text}\n | {dots}{mark}"));
        }
        out
    }
}

/// Problems as they are shown: in the order of their places, each with its line and a mark below it.
pub fn render(source: &str, problems: &[Problem]) -> String {
    let lines = Lines::new(source);
    let mut shown: Vec<_> = problems
        .iter()
        .take(SHOWN_MAX)
        .map(|problem| (lines.position(problem.place), &problem.message))
        .collect();
    shown.sort_by_key(|(position, _)| *position);
    let mut out: Vec<_> =
        shown.into_iter().map(|(position, message)| lines.shown(position, message)).collect();
    if problems.len() > SHOWN_MAX {
        out.push(format!("{} more errors were truncated", problems.len() - SHOWN_MAX));
    }
    out.join("\n")
}
