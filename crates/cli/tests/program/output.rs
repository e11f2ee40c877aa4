//! What goes where: pipes, colours, readers that leave early, shells.

use std::{
    io::Read,
    process::{Command, Stdio},
};

use proto::v1;

use crate::{
    PROGRAM, command, ended,
    server::{Fake, MANIFEST, Script, completed, service},
    wharf,
};

fn line(slot: u32, unix_ns: u64, text: &str) -> v1::LogLine {
    let text = text.as_bytes().to_vec().into();
    v1::LogLine {
        replica: slot.into(),
        slot,
        container: "main".to_owned(),
        stream: 1,
        unix_ns,
        text,
        partial: false,
    }
}

fn fake() -> Fake {
    let lines = vec![line(2, 20, "second"), line(1, 10, "\u{1b}[31mfirst"), line(1, 30, "third")];
    Fake::start(Script { services: vec![service("default", completed())], lines, ..Script::default() })
}

#[test]
fn pipes_get_plain_text_and_data() {
    let fake = fake();
    let table = wharf(&fake.socket(), &["get", "services"]);
    assert_eq!(table.code, 0, "{table:#?}");
    let expected = "\
NAME  READY  UP-TO-DATE  REVISION  ROLLOUT    PORTS  AGE
web   2/2    2           2         completed  -      1m30s
";
    assert_eq!(table.stdout, expected);
    let one = wharf(&fake.socket(), &["get", "services", "web", "-o", "json"]);
    let one: serde_json::Value = serde_json::from_str(&one.stdout).expect("JSON");
    assert_eq!(one["status"]["rollout"]["phase"], "completed");
    let all = wharf(&fake.socket(), &["get", "services", "-o", "json"]);
    let all: serde_json::Value = serde_json::from_str(&all.stdout).expect("JSON");
    assert_eq!(all.as_array().map(Vec::len), Some(1));
    assert_eq!(wharf(&fake.socket(), &["get", "services", "-o", "name"]).stdout, "service/web\n");
    let nothing = wharf(&fake.socket(), &["get", "services", "-n", "shop"]);
    assert!(nothing.stdout.is_empty() && nothing.stderr.contains("no services here"), "{nothing:#?}");
    let version = wharf(&fake.socket(), &["version"]);
    assert!(version.stdout.ends_with("server 9.9.9\n"), "{version:#?}");
    fake.stop();
}

#[test]
fn colours_come_and_go_as_the_environment_says() {
    let fake = fake();
    let describe = |variable: Option<&str>| {
        let mut command = command(&fake.socket(), &["describe", "web"]);
        command.envs(variable.map(|name| (name, "1")));
        ended(command.output().expect("the program runs")).stdout
    };
    assert!(!describe(None).contains('\u{1b}'));
    assert!(describe(Some("CLICOLOR_FORCE")).contains("\u{1b}[1m"));
    assert!(!describe(Some("NO_COLOR")).contains('\u{1b}'));
    fake.stop();
}

#[test]
fn logs_are_told_in_the_order_of_time_and_as_they_were_written() {
    let fake = fake();
    let logs = wharf(&fake.socket(), &["logs", "web"]);
    assert_eq!(logs.stdout, "web.1 | \u{1b}[31mfirst\nweb.2 | second\nweb.1 | third\n");
    fake.stop();
}

#[test]
fn a_reader_that_leaves_early_ends_a_command_quietly() {
    let fake = fake();
    let verbs: [&[&str]; 4] = [&["get", "services"], &["schema"], &["completion", "bash"], &["logs", "web"]];
    for args in verbs {
        let mut quiet = command(&fake.socket(), args);
        let mut child =
            quiet.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs");
        drop(child.stdout.take());
        let mut told = String::new();
        let mut stderr = child.stderr.take().expect("a pipe");
        stderr.read_to_string(&mut told).expect("text");
        let code = child.wait().expect("it ends").code();
        assert_eq!((code, told.as_str()), (Some(0), ""), "{args:?}");
    }
    fake.stop();
}

#[test]
fn output_that_cannot_be_written_is_an_error_but_not_of_a_deploy() {
    let fake = fake();
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a full device");
    let shown =
        command(&fake.socket(), &["get", "services"]).stdout(full()).output().expect("the program runs");
    let shown = ended(shown);
    assert_eq!(shown.code, 1, "{shown:#?}");
    assert!(shown.stderr.contains("cannot be written"), "{shown:#?}");
    let path = fake.folder().join("web.yaml");
    std::fs::write(&path, MANIFEST).expect("a manifest");
    let args = ["apply", "--wait", "-f", path.to_str().expect("UTF-8")];
    let applied = ended(command(&fake.socket(), &args).stdout(full()).output().expect("the program runs"));
    assert_eq!(applied.code, 0, "{applied:#?}");
    fake.stop();
}

#[test]
fn a_diff_says_by_its_exit_code_what_it_was_asked_to() {
    let fake = fake();
    let path = fake.folder().join("web.yaml");
    std::fs::write(&path, MANIFEST).expect("a manifest");
    let file = path.to_str().expect("UTF-8");
    let diff = wharf(&fake.socket(), &["diff", "-f", file]);
    assert_eq!(diff.code, 0, "{diff:#?}");
    assert!(
        diff.stdout.contains("will be created") && diff.stdout.contains("+ spec.image: app:1"),
        "{diff:#?}"
    );
    assert_eq!(wharf(&fake.socket(), &["diff", "--exit-code", "-f", file]).code, 8);
    let dry = wharf(&fake.socket(), &["apply", "--dry-run", "-f", file]);
    assert!(dry.code == 0 && dry.stdout.contains("nothing was changed"), "{dry:#?}");
    fake.stop();
}

#[test]
fn completion_works_in_bash() {
    let script = format!(
        "source <({PROGRAM} completion bash) && COMP_WORDS=(wharf rollout sta) COMP_CWORD=2 && _wharf wharf sta rollout && \
         echo \"${{COMPREPLY[@]}}\""
    );
    let output = ended(Command::new("bash").args(["--norc", "-c", &script]).output().expect("bash"));
    assert_eq!(output.stdout, "status\n", "{output:#?}");
    for shell in ["zsh", "fish"] {
        let script = wharf(std::path::Path::new("/nowhere"), &["completion", shell]);
        assert!(script.code == 0 && script.stdout.contains("rollout"), "{shell}");
    }
}
