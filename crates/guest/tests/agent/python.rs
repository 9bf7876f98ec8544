//! What Python code means: state, echo, errors.

use crate::rig::Rig;

#[test]
fn variables_imports_and_functions_stay_from_run_to_run() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.python("import math\nx = 20\ndef double(n):\n    return 2 * n")
        .says("");
    host.python("print(double(x) + math.floor(2.5))").says("42\n");
    rig.host().python("print(x)").says("20\n");
}

#[test]
fn the_last_top_level_expression_is_echoed_and_nothing_else_is() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.python("40 + 2").says("42\n");
    host.python("_ + 1").says("43\n");
    host.python("'a'\n'b'").says("'b'\n");
    host.python("None").says("");
    host.python("x = 5").says("");
    host.python("for i in range(3):\n    i").says("");
    host.python("import io\nwith io.StringIO() as f:\n    f.write('x')")
        .says("");
    host.python("if True: 7").says("");
    host.python("print('a'); 'b'").says("a\n'b'\n");
    host.python("").says("");
    host.python("# only a comment").says("");
    host.python("def f(): return 'doc'\nf()").says("'doc'\n");
}

#[test]
fn an_indented_block_runs_as_if_it_were_not() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.python("\n    x = 1\n    if x:\n        print('yes')\n\n    x")
        .says("yes\n1\n");
    host.python("\t# comment\n\tprint(2)\n").says("2\n");
    host.python("# at the margin\n    print(3)\n").says("3\n");
    host.python("    a = 1\nb = 2\na + b").says("3\n");
    host.python("x = 1\n    y = 2")
        .fails(1, "IndentationError: unexpected indent");
}

#[test]
fn a_traceback_shows_the_users_frames_with_their_lines_and_nothing_of_the_driver() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.python("def inner():\n    return 1 / 0\n").says("");
    let outcome = host.python("x = 1\ninner()");
    outcome.fails(1, "ZeroDivisionError: division by zero\n");
    let err = outcome.err();
    assert!(
        err.starts_with("Traceback (most recent call last):\n  File \"<cell 2>\", line 2, in <module>\n"),
        "{err}"
    );
    assert!(
        err.contains("    return 1 / 0\n") && err.contains("    inner()\n"),
        "{err}"
    );
    assert!(
        !err.contains("podflare") && !err.contains("exec") && !err.contains("eval"),
        "{err}"
    );
    host.python("print('alive')").says("alive\n");
}

#[test]
fn of_a_line_of_data_a_traceback_shows_the_beginning() {
    let rig = Rig::new();
    let mut host = rig.host();
    let outcome = host.python(&format!("x = 1\nlen('{}') + None", "é".repeat(300_000)));
    outcome.fails(1, "TypeError: unsupported operand");
    let err = outcome.err();
    assert!(
        err.contains("    len('éé") && err.len() < 32 * 1024,
        "{} bytes",
        err.len()
    );
    host.python("x").says("1\n");
}

#[test]
fn chained_exceptions_are_shown_in_full() {
    let rig = Rig::new();
    let outcome = rig
        .host()
        .python("try:\n    {}['k']\nexcept KeyError as e:\n    raise ValueError('bad') from e");
    outcome.fails(1, "ValueError: bad");
    assert!(outcome.err().contains("KeyError: 'k'") && !outcome.err().contains("podflare"));
}

#[test]
fn code_that_does_not_compile_shows_where_and_has_no_effects() {
    let rig = Rig::new();
    let mut host = rig.host();
    let outcome = host.python("print('before')\nx = = 1");
    outcome.fails(1, "SyntaxError: invalid syntax");
    assert!(
        outcome.err().contains("    x = = 1\n") && outcome.err().contains("line 2"),
        "{}",
        outcome.err()
    );
    assert!(!outcome.err().contains("Traceback"), "{}", outcome.err());
    host.python("print('before')\nreturn 5")
        .fails(1, "SyntaxError: 'return' outside function");
    host.python("x = '\0'").fails(1, "null bytes");
}

#[test]
fn system_exit_gives_its_code_and_the_repl_lives_on() {
    let rig = Rig::new();
    let mut host = rig.host();
    for (code, expected) in [
        ("x = 1\nimport sys; sys.exit(3)", 3),
        ("exit()", 0),
        ("quit(5)", 5),
        ("raise SystemExit", 0),
        ("raise SystemExit(-1)", 255),
        ("raise SystemExit(256 + 7)", 7),
        ("raise SystemExit(True)", 1),
    ] {
        let outcome = host.python(code);
        assert_eq!((outcome.code, outcome.err().as_str()), (expected, ""), "{code}");
    }
    host.python("sys.exit('a reason')").fails(1, "a reason\n");
    host.python("x").says("1\n");
}

#[test]
fn other_base_exceptions_are_ordinary_failures() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.python("raise KeyboardInterrupt")
        .fails(1, "KeyboardInterrupt");
    host.python("raise GeneratorExit").fails(1, "GeneratorExit");
    host.python("class E(BaseException): pass\nraise E('mine')")
        .fails(1, "E: mine");
    host.python("def f(): f()\nf()").fails(1, "RecursionError");
    host.python("class X(Exception):\n    def __str__(self): raise ValueError\nraise X")
        .fails(1, "X");
    host.python("'alive'").says("'alive'\n");
}

#[test]
fn a_users_excepthook_and_displayhook_are_used() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.python("import sys\nsys.excepthook = lambda t, v, tb: print('hook', t.__name__)")
        .says("");
    let outcome = host.python("1/0");
    assert_eq!(
        (outcome.out().as_str(), outcome.code),
        ("hook ZeroDivisionError\n", 1)
    );
    host.python("sys.displayhook = lambda value: print('value', value)")
        .says("");
    host.python("7").says("value 7\n");
}

#[test]
fn future_imports_stay_in_force() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.python("from __future__ import annotations").says("");
    host.python("def f(x: NotDefined): pass\nf.__annotations__")
        .says("{'x': 'NotDefined'}\n");
}

#[test]
fn main_is_a_real_module() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.python("__name__").says("'__main__'\n");
    host.python("class C: pass\nimport pickle\ntype(pickle.loads(pickle.dumps(C()))) is C")
        .says("True\n");
    host.python("import sys\nsys.argv, sys.path[0], sys.modules['__main__'].C is C")
        .says("([''], '', True)\n");
    let home = rig.home().canonicalize().unwrap();
    host.python("import os; print(os.getcwd())")
        .says(&format!("{}\n", home.display()));
    host.python("sorted(n for n in globals() if not n.startswith('__'))")
        .says("['C', 'os', 'pickle', 'sys']\n");
    host.python("import inspect\nprint(inspect.getsource(lambda: 0) if 0 else 'ok')")
        .says("ok\n");
}

#[test]
fn asyncio_runs_again_and_again_and_await_works_at_the_top_level() {
    let rig = Rig::new();
    let mut host = rig.host();
    let code = "import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    return 5\n";
    host.python(&format!("{code}asyncio.run(f())")).says("5\n");
    host.python("asyncio.run(f())").says("5\n");
    host.python("await f()").says("5\n");
    host.python("x = await f()\nawait asyncio.sleep(0)\nx + await f()")
        .says("10\n");
    host.python("asyncio.run(f())").says("5\n");
    host.python("async def bad(): 1/0\nawait bad()")
        .fails(1, "ZeroDivisionError");
}

#[test]
fn the_templates_imports_are_there_from_the_start() {
    let rig = Rig::with_template(
        &["math as m", "wave", "os.path"],
        &["x = m.floor(1.5)", "m.tau = 6"],
    );
    let mut host = rig.host();
    host.python("[name for name in globals() if not name.startswith('__')]")
        .says("['m']\n");
    host.python("import sys; m.floor(1.5), m.tau, 'wave' in sys.modules")
        .says("(1, 6, True)\n");
}

#[test]
fn ten_megabytes_of_code_run() {
    let rig = Rig::new();
    let code = format!("data = '{}'\nlen(data)", "x".repeat(10_000_000));
    rig.host().python(&code).says("10000000\n");
}

#[test]
fn warnings_show_the_users_line() {
    let rig = Rig::new();
    rig.host()
        .python("import warnings\nwarnings.warn('careful')")
        .fails(0, "<cell 1>:2: UserWarning: careful");
}
