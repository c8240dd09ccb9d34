//! The table as flags of the command line.

use std::marker::PhantomData;

use clap::Arg;
use clap::ArgAction;
use clap::ArgMatches;
use clap::Command;

use super::Form;
use super::Section;
use super::Setting;
use super::table::TABLE;

/// Which flags a command takes.
pub trait Takes {
    /// The sections whose settings are its flags.
    const SECTIONS: &'static [Section];
    /// Whether they may also stand before the command.
    const GLOBAL: bool = false;
}

/// Those of every command.
#[derive(Clone, Copy, Debug)]
pub struct Global;

impl Takes for Global {
    const SECTIONS: &'static [Section] = &[Section::General];
    const GLOBAL: bool = true;
}

/// Those of `backup`.
#[derive(Clone, Copy, Debug)]
pub struct ForBackup;

impl Takes for ForBackup {
    const SECTIONS: &'static [Section] =
        &[Section::Target, Section::Connection, Section::Dump, Section::Alarms];
}

/// Those of the commands that look at the mount and ask no server.
#[derive(Clone, Copy, Debug)]
pub struct ForLook;

impl Takes for ForLook {
    const SECTIONS: &'static [Section] = &[Section::Target];
}

/// Those of `health`.
#[derive(Clone, Copy, Debug)]
pub struct ForHealth;

impl Takes for ForHealth {
    const SECTIONS: &'static [Section] = &[Section::Health];
}

/// Those of `next`: when, and what decides the jitter.
#[derive(Clone, Copy, Debug)]
pub struct ForNext;

impl Takes for ForNext {
    const SECTIONS: &'static [Section] = &[Section::Connection, Section::Schedule];
}

/// All that are not global, for `run` and for the commands that show settings.
#[derive(Clone, Copy, Debug)]
pub struct Every;

impl Takes for Every {
    const SECTIONS: &'static [Section] = &[
        Section::Target,
        Section::Connection,
        Section::Dump,
        Section::Schedule,
        Section::Alarms,
        Section::Health,
    ];
}

/// One flag as it was typed.
#[derive(Clone, Debug)]
pub(crate) struct Typed {
    /// The name of the setting.
    pub(crate) setting: &'static str,
    /// The flag itself.
    pub(crate) flag: String,
    /// What followed it.
    pub(crate) texts: Vec<String>,
    /// Whether that names a file.
    pub(crate) is_file: bool,
}

/// The settings that were typed, of those that a command takes. To be flattened into its arguments.
#[derive(Debug)]
pub struct Flags<T> {
    pub(crate) typed: Vec<Typed>,
    takes: PhantomData<T>,
}

impl<T> Clone for Flags<T> {
    fn clone(&self) -> Self {
        Self { typed: self.typed.clone(), takes: PhantomData }
    }
}

/// Name of the flag and whether it takes a file, for each flag of a setting.
fn flags_of(setting: &'static Setting) -> impl Iterator<Item = (&'static str, bool)> {
    let own = setting.flag.then_some((setting.name, false));
    let file = setting.from_file.map(|name| (name, true));
    own.into_iter().chain(file)
}

fn taken<T: Takes>() -> impl Iterator<Item = &'static Setting> {
    TABLE.iter().copied().filter(|setting| T::SECTIONS.contains(&setting.section))
}

impl<T: Takes> clap::FromArgMatches for Flags<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self { typed: Vec::new(), takes: PhantomData };
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for setting in taken::<T>() {
            for (flag, is_file) in flags_of(setting) {
                let Some(texts) = matches.get_many::<String>(flag) else { continue };
                let texts = texts.cloned().collect();
                let (setting, flag) = (setting.name, format!("--{flag}"));
                self.typed.push(Typed { setting, flag, texts, is_file });
            }
        }
        Ok(())
    }
}

impl<T: Takes> clap::Args for Flags<T> {
    fn augment_args(command: Command) -> Command {
        taken::<T>().fold(command, |command, setting| {
            flags_of(setting).fold(command, |command, (flag, is_file)| {
                command.arg(argument(setting, flag, is_file).global(T::GLOBAL))
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn argument(setting: &'static Setting, flag: &'static str, is_file: bool) -> Arg {
    let argument = Arg::new(flag).long(flag).help_heading(setting.section.heading());
    if is_file {
        let help = format!("A file that holds the {}{}", setting.name, variables(setting, "_FILE"));
        return argument.value_name("FILE").help(help);
    }
    let default =
        setting.default.map_or_else(String::new, |default| format!(" [default: {default}]"));
    let argument =
        argument.help(format!("{}{}{default}", setting.help.trim_start(), variables(setting, "")));
    match setting.form {
        Form::Text(word) => argument.value_name(word),
        Form::List(word) => argument.value_name(word).action(ArgAction::Append),
        Form::Switch => argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("BOOL"),
    }
}

fn variables(setting: &Setting, suffix: &str) -> String {
    let names: Vec<String> =
        setting.variables.iter().map(|name| format!("{name}{suffix}")).collect();
    if names.is_empty() { String::new() } else { format!(" [env: {}]", names.join(", ")) }
}
