//! Programs that only pass text on, which may stand behind a pipe or between two commands.
//!
//! They read standard input and never a file: a file of the server may be its own token.

use crate::{
    classification::{Classification, SensitiveOutput},
    flag_parser::{FlagTable, parse_arguments},
    sensitive_output::sensitivity_of_words,
    shell_lexer::ShellWord,
};

/// What a filter does with its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PipeFilter {
    /// It passes all of it on.
    Whole,
    /// It passes parts of it on, without what is around them.
    Parts,
    /// It counts.
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
        "cat" | "head" => PipeFilter::Whole,
        "wc" => PipeFilter::Counts,
        "base64" if command.iter().any(|word| matches!(word.text.as_str(), "-d" | "-D" | "--decode" | "-di")) => {
            PipeFilter::Decodes
        }
        "jq" | "yq" if command.iter().any(|word| word.text.contains("base64")) => PipeFilter::Decodes,
        name if FILTERS.iter().any(|(known, ..)| *known == name) => PipeFilter::Parts,
        _ => return None,
    })
}

/// The operands that a filter may have.
#[derive(Clone, Copy)]
enum FilterOperands {
    None,
    /// A pattern, unless `-e` gives it.
    Pattern,
    /// At least and at most so many words of any form.
    Count(usize, usize),
    /// One program, which the function knows to be harmless.
    Program(fn(&str) -> bool),
    /// A number.
    Number,
    /// Nothing, or a format that starts with `+`.
    Format,
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
    ("cat", &["n,number A,show-all b s v e t E T"], FilterOperands::None),
    ("tac", &[], FilterOperands::None),
    ("rev", &[], FilterOperands::None),
    ("nl", &["b="], FilterOperands::None),
    ("base64", &["d,decode D i w,wrap="], FilterOperands::None),
    ("awk", &["F= v="], FilterOperands::Program(is_harmless_awk_program)),
    ("sed", &["n,quiet E r,regexp-extended"], FilterOperands::Program(is_harmless_sed_script)),
    (
        "jq",
        &["r,raw-output c,compact-output S,sort-keys s,slurp e,exit-status M,monochrome-output C,color-output \
           a,ascii-output j,join-output n,null-input R,raw-input tab indent="],
        FilterOperands::Program(is_harmless_jq_program),
    ),
    (
        "yq",
        &["r,unwrapScalar o,output-format= p,input-format= P,prettyPrint M,no-colors C,colors N,no-doc j,tojson y"],
        FilterOperands::Program(is_harmless_jq_program),
    ),
    ("echo", &["n e E"], FilterOperands::Count(0, usize::MAX)),
    ("printf", &[], FilterOperands::Count(1, usize::MAX)),
    ("true", &[], FilterOperands::None),
    ("false", &[], FilterOperands::None),
    ("sleep", &[], FilterOperands::Number),
    ("date", &["u,utc"], FilterOperands::Format),
];

const GREP_FLAGS: FlagTable =
    &["E,extended-regexp F,fixed-strings G,basic-regexp P,perl-regexp i,ignore-case v,invert-match w,word-regexp \
     x,line-regexp n,line-number o,only-matching c,count q,quiet h,no-filename H a,text s,no-messages l \
     e,regexp= m,max-count= A,after-context= B,before-context= C,context= color? colour? line-buffered"];

/// Classifies a filter and its arguments; `None` if no such filter is known.
pub(crate) fn classify_filter(name: &str, arguments: &[ShellWord]) -> Option<Classification> {
    let (name, flags, operands) = FILTERS.iter().find(|(known, ..)| *known == name)?;
    let takes_numbers = matches!(*name, "head" | "tail" | "grep" | "egrep");
    let parsed = match parse_arguments(arguments.iter(), &[*flags, if takes_numbers { NUMBER_FLAGS } else { &[] }]) {
        Ok(parsed) => parsed,
        // `echo` prints what it does not know as a flag.
        Err(_) if *name == "echo" => return Some(Classification::read("`echo` prints")),
        Err(reason) => return Some(Classification::mutating(format!("`{name}`: {reason}"))),
    };
    let given: Vec<&str> = parsed.operands.iter().map(|word| word.text.as_str()).filter(|text| *text != "-").collect();
    let is_harmless = match *operands {
        FilterOperands::None => given.is_empty(),
        FilterOperands::Pattern => given.len() == usize::from(!parsed.has_flag("regexp")),
        FilterOperands::Count(least, most) => (least..=most).contains(&given.len()),
        FilterOperands::Program(is_harmless_program) => {
            matches!(given.as_slice(), [program] if is_harmless_program(program))
        }
        FilterOperands::Number => {
            matches!(given.as_slice(), [number] if number.len() < 5 && number.bytes().all(|byte| byte.is_ascii_digit()))
        }
        FilterOperands::Format => given.iter().all(|format| format.starts_with('+')) && given.len() < 2,
    };
    Some(match is_harmless {
        true => Classification::read(format!("`{name}` only filters")),
        false => Classification::mutating(format!("`{name}` with these operands is not known to be harmless"))
            .with_sensitive_output(sensitivity_of_words(arguments)),
    })
}

/// Returns whether an awk program starts no other program and reads no file and no environment: awk does so only by these
/// words and characters.
fn is_harmless_awk_program(program: &str) -> bool {
    let words = ["system", "getline", "ENVIRON", "ARG", "SYMTAB", "PROCINFO", "include", "load", "close", "fflush"];
    !program.contains(['|', '>', '<', '@', '`', '\\']) && !words.iter().any(|word| program.contains(word))
}

/// Returns whether a sed script only prints or omits lines, by number or pattern, or is one plain replacement.
fn is_harmless_sed_script(script: &str) -> bool {
    if script.contains(['\\', '[', '\n', ';', '{', '}']) {
        return false;
    }
    if let Some(replacement) = script.strip_prefix("s/") {
        let are_harmless = |flags: &str| flags.bytes().all(|byte| matches!(byte, b'g' | b'p' | b'i' | b'I'));
        let mut parts = replacement.split('/').skip(2);
        return parts.next().is_some_and(are_harmless) && parts.next().is_none();
    }
    let Some(address) = script.strip_suffix(['p', 'd', 'q']) else { return false };
    if let Some(pattern) = address.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
        return !pattern.contains('/');
    }
    !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'$' | b','))
}

/// Returns whether a program of jq or yq reads no file, no module and no environment of the server. It does so only by
/// these names; as keys of an object, they stand behind a dot or in quotes.
fn is_harmless_jq_program(program: &str) -> bool {
    const FORBIDDEN_NAMES: &[&str] = &[
        "env",
        "envsubst",
        "strenv",
        "ENV",
        "import",
        "include",
        "input_filename",
        "load",
        "load_str",
        "load_xml",
        "load_props",
        "load_base64",
        "system",
        "eval",
        "modulemeta",
        "get_search_list",
        "__loc__",
        "filename",
    ];
    let mut previous = ' ';
    let mut word = String::new();
    let mut before_word = ' ';
    for char in program.chars().chain([' ']) {
        if char.is_ascii_alphanumeric() || char == '_' {
            if word.is_empty() {
                before_word = previous;
            }
            word.push(char);
        } else {
            if FORBIDDEN_NAMES.contains(&word.as_str()) && !matches!(before_word, '.' | '"') {
                return false;
            }
            word.clear();
        }
        previous = char;
    }
    true
}
