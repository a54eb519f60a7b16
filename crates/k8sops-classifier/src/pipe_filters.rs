//! Programs that only pass text on, which may stand behind a pipe or between two commands.
//!
//! They read standard input and never a file: a file of the server may be its own token.

use crate::{
    awk_program::{is_harmless_awk_assignment, is_harmless_awk_program},
    classification::{Classification, SensitiveOutput},
    flag_parser::{FlagTable, ParsedArguments, parse_arguments},
    jq_program::{JqDialect, is_harmless_jq_program},
    name_template::prints_only_names,
    sed_script::is_harmless_sed_script,
    sensitive_output::sensitivity_of_words,
    shell_word::{PIPE_FILE, ShellWord, TextKind},
};

/// What a filter does with its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PipeFilter {
    /// It passes all of it on.
    Whole,
    /// It passes parts of it on, without what is around them.
    Parts,
    /// It prints counts or names.
    Counts,
    /// It decodes.
    Decodes,
}

impl PipeFilter {
    /// Returns how the output of the filter may contain secret values, when its input may.
    pub(crate) fn sensitivity_after(self, input: SensitiveOutput) -> SensitiveOutput {
        match self {
            Self::Whole | Self::Counts => input,
            Self::Parts | Self::Decodes => SensitiveOutput::Values,
        }
    }

    pub(crate) fn is_decoder(self) -> bool {
        self == Self::Decodes
    }
}

/// Returns what a command does with its input; `None` if it is not a filter.
pub(crate) fn find_filter(command: &[ShellWord]) -> Option<PipeFilter> {
    Some(match command.first()?.text.as_str() {
        "cat" | "head" | "less" | "more" | "tee" => PipeFilter::Whole,
        "wc" => PipeFilter::Counts,
        "base64" if command.iter().any(|word| matches!(word.text.as_str(), "-d" | "-D" | "--decode" | "-di")) => {
            PipeFilter::Decodes
        }
        "jq" | "yq" if command.iter().any(|word| word.text.contains("base64")) => PipeFilter::Decodes,
        "jq" if prints_only_names_of_objects(command) => PipeFilter::Counts,
        name if FILTERS.iter().any(|(known, ..)| *known == name) => PipeFilter::Parts,
        _ => return None,
    })
}

/// Returns whether a command is `jq` with a program that prints only names.
fn prints_only_names_of_objects(command: &[ShellWord]) -> bool {
    let is_harmless_flag = |word: &&ShellWord| matches!(word.text.as_str(), "-r" | "-c" | "-j" | "--raw-output");
    let mut words = command[1..].iter().filter(|word| !is_harmless_flag(word));
    words.next().is_some_and(|program| prints_only_names(&program.text)) && words.next().is_none()
}

/// The operands that a filter may have.
#[derive(Clone, Copy)]
enum FilterOperands {
    None,
    /// A pattern, unless `-e` gives it.
    Pattern,
    /// At least and at most so many words of any form.
    Count(usize, usize),
    /// What the function knows to be harmless.
    Checked(fn(&ParsedArguments<'_>, &[&str]) -> bool),
    /// A number.
    Number,
    /// Nothing, or a format that starts with `+`.
    Format,
    /// At least and at most so many outputs of process substitutions.
    Pipes(usize, usize),
    /// At least and at most so many words of letters and digits.
    Names(usize, usize),
}

/// `-5` is a number of lines.
const NUMBER_FLAGS: FlagTable = &["1 2 3 4 5 6 7 8 9 0"];

/// The filters, with their harmless flags.
const FILTERS: &[(&str, FlagTable, FilterOperands)] = &[
    ("grep", GREP_FLAGS, FilterOperands::Pattern),
    ("egrep", GREP_FLAGS, FilterOperands::Pattern),
    ("fgrep", GREP_FLAGS, FilterOperands::Pattern),
    ("head", &["n,lines= c,bytes= q,quiet v,verbose"], FilterOperands::None),
    ("tail", &["n,lines= c,bytes= q,quiet v,verbose"], FilterOperands::None),
    ("wc", &["l,lines w,words c,bytes m,chars L"], FilterOperands::None),
    (
        "sort",
        &["r,reverse n,numeric-sort h,human-numeric-sort u,unique f,ignore-case b d V,version-sort M g \
           s,stable k,key= t,field-separator="],
        FilterOperands::None,
    ),
    (
        "uniq",
        &["c,count d,repeated u,unique i,ignore-case f,skip-fields= s,skip-chars= w,check-chars="],
        FilterOperands::None,
    ),
    (
        "cut",
        &["d,delimiter= f,fields= c,characters= b,bytes= s,only-delimited complement output-delimiter="],
        FilterOperands::None,
    ),
    ("tr", &["d,delete s,squeeze-repeats c,complement C t,truncate-set1"], FilterOperands::Count(1, 2)),
    ("column", &["t,table s,separator= o,output-separator= c,output-width= N,table-columns="], FilterOperands::None),
    ("cat", &["n,number A,show-all b s v e t E T"], FilterOperands::Pipes(0, 9)),
    ("tac", &[], FilterOperands::None),
    ("rev", &[], FilterOperands::None),
    ("nl", &["b="], FilterOperands::None),
    ("base64", &["d,decode D i w,wrap="], FilterOperands::None),
    ("awk", &["F= v="], FilterOperands::Checked(is_harmless_awk)),
    ("gawk", &["F= v="], FilterOperands::Checked(is_harmless_awk)),
    (
        "sed",
        &["n,quiet silent E r,regexp-extended u,unbuffered e,expression="],
        FilterOperands::Checked(is_harmless_sed),
    ),
    (
        "jq",
        &["r,raw-output c,compact-output S,sort-keys s,slurp e,exit-status M,monochrome-output C,color-output \
           a,ascii-output j,join-output n,null-input R,raw-input tab indent= unbuffered stream seq"],
        FilterOperands::Checked(is_harmless_jq),
    ),
    (
        "yq",
        &[
            "r,unwrapScalar o,output-format= p,input-format= P,prettyPrint M,no-colors C,colors N,no-doc j,tojson y I,indent=\
           e,exit-status",
        ],
        FilterOperands::Checked(is_harmless_yq),
    ),
    (
        "less",
        &["S,chop-long-lines R,RAW-CONTROL-CHARS r F,quit-if-one-screen X,no-init N,LINE-NUMBERS i E"],
        FilterOperands::None,
    ),
    ("more", &["d f l p c s u"], FilterOperands::None),
    ("tee", &[], FilterOperands::Checked(is_harmless_tee)),
    ("paste", &["s,serial d,delimiters="], FilterOperands::Pipes(0, 9)),
    ("fold", &["w,width= s,spaces b,bytes"], FilterOperands::None),
    ("expand", &["t,tabs= i,initial"], FilterOperands::None),
    ("rg", RG_FLAGS, FilterOperands::Pattern),
    ("echo", &["n e E"], FilterOperands::Count(0, usize::MAX)),
    ("printf", &[], FilterOperands::Count(1, usize::MAX)),
    ("true", &[], FilterOperands::None),
    (":", &[], FilterOperands::None),
    ("false", &[], FilterOperands::None),
    ("sleep", &[], FilterOperands::Number),
    ("date", &["u,utc d,date="], FilterOperands::Format),
    (
        "diff",
        &["u,unified q,brief y,side-by-side w,ignore-all-space b B i N c a t U= C= W= width= suppress-common-lines \
           strip-trailing-cr color? s"],
        FilterOperands::Pipes(1, 2),
    ),
    ("comm", &["1 2 3"], FilterOperands::Pipes(1, 2)),
    ("join", &["t= 1= 2= a= v= o= j= i"], FilterOperands::Pipes(1, 2)),
    ("seq", &["w s="], FilterOperands::Checked(is_harmless_seq)),
    ("basename", &["s= a"], FilterOperands::Count(1, usize::MAX)),
    ("dirname", &[], FilterOperands::Count(1, usize::MAX)),
    ("which", &["a"], FilterOperands::Names(1, 9)),
    ("type", &["t p a"], FilterOperands::Names(1, 9)),
    ("command", &["v V"], FilterOperands::Names(1, 9)),
];

const GREP_FLAGS: FlagTable =
    &["E,extended-regexp F,fixed-strings G,basic-regexp P,perl-regexp i,ignore-case v,invert-match w,word-regexp \
     x,line-regexp n,line-number o,only-matching c,count q,quiet h,no-filename H a,text s,no-messages l \
     e,regexp= m,max-count= A,after-context= B,before-context= C,context= color? colour? line-buffered"];

const RG_FLAGS: FlagTable =
    &["F,fixed-strings P,pcre2 i,ignore-case S,smart-case v,invert-match w,word-regexp x,line-regexp n,line-number \
     o,only-matching c,count N,no-line-number e,regexp= m,max-count= A,after-context= B,before-context= C,context= \
     color="];

/// Options of the shell that only make it stricter or more talkative.
const SET_OPTIONS: &[&str] =
    &["-e", "-u", "-x", "-o", "-eu", "-ex", "-eo", "-uo", "-euo", "-euxo", "-exo", "+e", "+u", "+x", "+o", "pipefail"];

/// Classifies a filter and its arguments; `None` if no such filter is known.
pub(crate) fn classify_filter(name: &str, arguments: &[ShellWord]) -> Option<Classification> {
    if name == "set" {
        return Some(classify_set(arguments));
    }
    let (name, flags, operands) = FILTERS.iter().find(|(known, ..)| *known == name)?;
    let unclear =
        |reason: String| Some(Classification::mutating(reason).with_sensitive_output(sensitivity_of_words(arguments)));
    let has_unknown = !arguments.iter().all(ShellWord::is_known);
    if has_unknown && matches!(*name, "echo" | "printf" | "basename" | "dirname") {
        return match may_print_words(name, arguments) {
            true => Some(Classification::read(format!("`{name}` prints"))),
            false => unclear(format!("`{name}`: a text without quotes may become names of files or flags")),
        };
    }
    let Some(arguments_of_program) = remove_jq_variables(name, arguments) else {
        return unclear(format!("`{name}`: a variable has no plain name and value"));
    };
    let takes_numbers = matches!(*name, "head" | "tail" | "grep" | "egrep");
    let parsed = match parse_arguments(
        arguments_of_program.into_iter(),
        &[*flags, if takes_numbers { NUMBER_FLAGS } else { &[] }],
    ) {
        Ok(parsed) => parsed,
        // `echo` prints what it does not know as a flag.
        Err(_) if *name == "echo" => return Some(Classification::read("`echo` prints")),
        Err(reason) => return unclear(format!("`{name}`: {reason}")),
    };
    if has_unknown && !are_unknown_words_harmless(&parsed, *operands) {
        return unclear(format!("`{name}`: a word that is only known when the line runs is not supported here"));
    }
    let given: Vec<&str> = parsed.operands.iter().map(|word| word.text.as_str()).filter(|text| *text != "-").collect();
    let is_harmless = match *operands {
        FilterOperands::None => given.is_empty(),
        FilterOperands::Pattern => given.len() == usize::from(!parsed.has_flag("regexp")),
        FilterOperands::Count(least, most) => (least..=most).contains(&given.len()),
        FilterOperands::Checked(is_harmless) => is_harmless(&parsed, &given),
        FilterOperands::Number => match parsed.operands.as_slice() {
            [word] => word.unknown.map_or_else(
                || {
                    let number = word.text.strip_suffix(['s', 'm']).unwrap_or(&word.text);
                    let is_number_char = |byte: u8| byte.is_ascii_digit() || byte == b'.';
                    (1..5).contains(&number.len()) && number.bytes().all(is_number_char)
                },
                |unknown| unknown.kind == TextKind::Number,
            ),
            _ => false,
        },
        FilterOperands::Pipes(least, most) => {
            (least..=most).contains(&given.len()) && given.iter().all(|operand| *operand == PIPE_FILE)
        }
        FilterOperands::Names(least, most) => {
            let is_plain = |name: &&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            (least..=most).contains(&given.len()) && given.iter().all(is_plain)
        }
        FilterOperands::Format => given.iter().all(|format| format.starts_with('+')) && given.len() < 2,
    };
    match is_harmless {
        true => Some(Classification::read(format!("`{name}` only filters"))),
        false => unclear(format!("`{name}` with these operands is not known to be harmless")),
    }
}

/// Returns whether a program that prints its words may get these.
fn may_print_words(name: &str, words: &[ShellWord]) -> bool {
    let is_split_text =
        |word: &ShellWord| !word.is_one_word() && word.unknown.is_some_and(|unknown| unknown.kind == TextKind::Text);
    let starts_plainly = match (name, words.first()) {
        ("echo", _) => true,
        // The first word of `printf` may be a flag that sets a variable.
        ("printf", Some(format)) => format.is_known() && !format.text.starts_with('-'),
        _ => words.iter().all(|word| !word.may_be_hidden_flag()),
    };
    starts_plainly && !words.iter().any(is_split_text)
}

/// Flags whose value may be any text.
const FREE_FLAGS: &[&str] =
    &["regexp", "v", "lines", "max-count", "date", "after-context", "before-context", "context"];

/// Returns whether the words that are only known when the line runs stand where any text is harmless.
fn are_unknown_words_harmless(parsed: &ParsedArguments<'_>, operands: FilterOperands) -> bool {
    let takes_unknown =
        matches!(operands, FilterOperands::Pattern | FilterOperands::Number | FilterOperands::Pipes(..));
    let is_number = |word: &&&ShellWord| {
        word.unknown.is_some_and(|unknown| unknown.kind == TextKind::Number)
            && matches!(operands, FilterOperands::Number)
    };
    let unknown = parsed.operands.iter().filter(|word| !word.is_known());
    let are_single = unknown.clone().all(|word| word.is_one_word() || is_number(&word));
    !parsed.may_shift
        && are_single
        && (takes_unknown || unknown.count() == 0)
        && parsed.unknown_flags().all(|flag| FREE_FLAGS.contains(&flag))
}

/// Returns whether a program is known as a filter.
pub(crate) fn is_known_filter(name: &str) -> bool {
    name == "set" || FILTERS.iter().any(|(known, ..)| *known == name)
}

fn classify_set(arguments: &[ShellWord]) -> Classification {
    let is_option = |word: &ShellWord| word.unquoted && SET_OPTIONS.contains(&word.text.as_str());
    match !arguments.is_empty() && arguments.iter().all(is_option) {
        true => Classification::read("`set` changes how the shell handles errors"),
        false => Classification::mutating("`set` with these options is not known to be harmless"),
    }
}

/// Returns the arguments without `--arg NAME VALUE` and `--argjson NAME VALUE` of jq; `None` if one of them is incomplete
/// or its value looks like a flag.
fn remove_jq_variables<'a>(name: &str, arguments: &'a [ShellWord]) -> Option<Vec<&'a ShellWord>> {
    let mut others = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if name != "jq" || !matches!(word.text.as_str(), "--arg" | "--argjson") {
            others.push(word);
            continue;
        }
        let variable = &words.next()?.text;
        let value = &words.next()?.text;
        let is_plain = variable.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_plain || variable.is_empty() || value.starts_with('-') {
            return None;
        }
    }
    Some(others)
}

fn is_harmless_tee(_: &ParsedArguments<'_>, operands: &[&str]) -> bool {
    operands.iter().all(|file| matches!(*file, "/dev/null" | "/dev/stderr"))
}

fn is_harmless_seq(_: &ParsedArguments<'_>, operands: &[&str]) -> bool {
    let is_number = |text: &&str| text.len() < 6 && text.bytes().all(|byte| byte.is_ascii_digit());
    (1..=3).contains(&operands.len()) && operands.iter().all(is_number)
}

fn is_harmless_awk(parsed: &ParsedArguments<'_>, operands: &[&str]) -> bool {
    matches!(operands, [program] if is_harmless_awk_program(program))
        && parsed.flag_values("v").all(is_harmless_awk_assignment)
}

fn is_harmless_sed(parsed: &ParsedArguments<'_>, operands: &[&str]) -> bool {
    let mut expressions = parsed.flag_values("expression").peekable();
    match (expressions.peek().is_some(), operands) {
        (true, []) => expressions.all(is_harmless_sed_script),
        (false, [script]) => is_harmless_sed_script(script),
        _ => false,
    }
}

fn is_harmless_jq(_: &ParsedArguments<'_>, operands: &[&str]) -> bool {
    match operands {
        [] => true,
        [program] => is_harmless_jq_program(program, JqDialect::Jq),
        _ => false,
    }
}

fn is_harmless_yq(_: &ParsedArguments<'_>, operands: &[&str]) -> bool {
    match operands {
        [] | ["e" | "eval" | "ea" | "eval-all"] => true,
        ["e" | "eval" | "ea" | "eval-all", program] | [program] => is_harmless_jq_program(program, JqDialect::Yq),
        _ => false,
    }
}
