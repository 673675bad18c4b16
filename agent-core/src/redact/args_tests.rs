//! Tests of [`super`].

use super::*;
use crate::redact::fill;
use proptest::prelude::*;

fn line(text: &str) -> Vec<String> {
    text.split('\n').map(str::to_owned).collect()
}

#[test]
fn secrets_of_command_lines_are_redacted() {
    // One argument a line.
    let cases = [
        ("nothing", "ls\n-la\n/tmp", "ls\n-la\n/tmp"),
        ("option with =", "x\n--password=abc def\ny", "x\n--password=REDACTED\ny"),
        ("option and value", "x\n--password\nabc def\ny", "x\n--password\nREDACTED\ny"),
        ("single dash", "x\n-password\nabc", "x\n-password\nREDACTED"),
        ("value that begins with a dash", "x\n--token\n-a-b", "x\n--token\nREDACTED"),
        ("next option", "x\n--password\n--user\nroot", "x\n--password\n--user\nroot"),
        ("switched off", "mysql\n--no-password\nshop", "mysql\n--no-password\nshop"),
        ("a file", "x\n--password-file\n/run/pw", "x\n--password-file\n/run/pw"),
        ("environment", "env\nPASSWORD=a b\nx", "env\nPASSWORD=REDACTED\nx"),
        ("aws", "env\nAWS_SECRET_ACCESS_KEY=ab/c+=", "env\nAWS_SECRET_ACCESS_KEY=REDACTED"),
        (
            "docker -e",
            "docker\nrun\n-eTOKEN=abc\n-p\n80:80",
            "docker\nrun\n-eTOKEN=REDACTED\n-p\n80:80",
        ),
        ("nested assignment", "x\n--env=DB_PASSWORD=abc", "x\n--env=DB_PASSWORD=REDACTED"),
        (
            "java property",
            "java\n-Ddb.password=abc\n-jar\ns.jar",
            "java\n-Ddb.password=REDACTED\n-jar\ns.jar",
        ),
        (
            "mysql attached",
            "/usr/bin/mysql\n-uroot\n-pabc=d\nshop",
            "/usr/bin/mysql\n-uroot\n-pREDACTED\nshop",
        ),
        ("mysql asks", "mysql\n-p\nshop", "mysql\n-p\nshop"),
        (
            "behind sudo",
            "sudo\n-u\nroot\nmysqldump\n-pabc",
            "sudo\n-u\nroot\nmysqldump\n-pREDACTED",
        ),
        ("-p of others", "ssh\n-p\n22\nh", "ssh\n-p\n22\nh"),
        ("mkdir -p", "mkdir\n-p/a/b", "mkdir\n-p/a/b"),
        ("curl -u", "curl\n-u\nbob:abc\nhttp://h/", "curl\n-u\nbob:REDACTED\nhttp://h/"),
        ("curl -u attached", "curl\n-ubob:a:bc", "curl\n-ubob:REDACTED"),
        ("curl cluster", "curl\n-sSu\nbob:abc", "curl\n-sSu\nbob:REDACTED"),
        ("curl longer cluster", "curl\n-sRZu\nbob:abc", "curl\n-sRZu\nbob:REDACTED"),
        ("curl --url-query", "curl\n--url-query\na=abc", "curl\n--url-query\na=REDACTED"),
        ("curl --expand-data", "curl\n--expand-data\nabc", "curl\n--expand-data\nREDACTED"),
        ("curl --user", "curl\n--user\nbob:abc", "curl\n--user\nbob:REDACTED"),
        ("curl bearer", "curl\n--oauth2-bearer\nabc\nh", "curl\n--oauth2-bearer\nREDACTED\nh"),
        ("curl -u asks", "curl\n-u\nbob\nhttp://h/", "curl\n-u\nbob\nhttp://h/"),
        ("docker -u", "docker\nrun\n-u\n1000:1000\nimg", "docker\nrun\n-u\n1000:1000\nimg"),
        ("docker login", "docker\nlogin\n-u\nbob\n-p\nabc", "docker\nlogin\n-u\nbob\n-p\nREDACTED"),
        ("header", "curl\n-H\nAuthorization: Bearer abc", "curl\n-H\nAuthorization: REDACTED"),
        ("header glued", "curl\n-HCookie: a=b; c=d", "curl\n-HCookie: REDACTED"),
        ("own header", "curl\n-H\nX-Api-Key: abc", "curl\n-H\nX-Api-Key: REDACTED"),
        ("plain header", "curl\n-H\nAccept: text/html", "curl\n-H\nAccept: text/html"),
        ("bearer", "x\nrealm Bearer abc.def", "x\nrealm Bearer REDACTED"),
        ("URL", "git\nclone\nhttps://u:p@h/r", "git\nclone\nhttps://REDACTED:REDACTED@h/r"),
        (
            "URL in an option",
            "x\n--db=postgres://u:p@h/d",
            "x\n--db=postgres://REDACTED:REDACTED@h/d",
        ),
        ("query", "curl\nhttps://h/?a=1&key=abc&b=2", "curl\nhttps://h/?a=1&key=REDACTED&b=2"),
        ("form", "x\n-d\nuser=bob&password=abc&x=1", "x\n-d\nuser=bob&password=REDACTED&x=1"),
        ("body", "curl\n-d\nuser=bob&x=1\nh", "curl\n-d\nREDACTED\nh"),
        ("body attached", "curl\n-sdabc\nh", "curl\n-sdREDACTED\nh"),
        ("body, long", "curl\n--data-binary\na b\nh", "curl\n--data-binary\nREDACTED\nh"),
        ("body, JSON", "curl\n--json\n{\"a\":1}\nh", "curl\n--json\nREDACTED\nh"),
        ("body in a file", "curl\n--data\n@a.json\nh", "curl\n--data\n@a.json\nh"),
        ("body in a shell", "sh\n-c\ncurl --data 'a b' h", "sh\n-c\ncurl --data 'REDACTED' h"),
        ("form field", "curl\n-F\nnote=a b\nh", "curl\n-F\nnote=REDACTED\nh"),
        ("wget", "wget\n--post-data=a=b c\nh", "wget\n--post-data=REDACTED\nh"),
        ("-d of others", "cut\n-d\n,\n-f1", "cut\n-d\n,\n-f1"),
        (
            "header, long",
            "curl\n--header\nAuthorization: Basic a",
            "curl\n--header\nAuthorization: REDACTED",
        ),
        ("session", "curl\nhttp://h/a;jsessionid=A1", "curl\nhttp://h/a;jsessionid=REDACTED"),
        (
            "JSON",
            r#"x
-d
{"user":"bob","password":"a,b c","x":1}"#,
            r#"x
-d
{"user":"bob","password":"REDACTED","x":1}"#,
        ),
        ("conninfo", "psql\nhost=h password=abc user=u", "psql\nhost=h password=REDACTED user=u"),
        ("openssl", "openssl\n-passin\npass:abc", "openssl\n-passin\nREDACTED"),
        (
            "SQL",
            "psql\n-c\nALTER USER x PASSWORD 'a b' VALID",
            "psql\n-c\nALTER USER x PASSWORD 'REDACTED' VALID",
        ),
        ("shell, option", "sh\n-c\nx --password abc --y", "sh\n-c\nx --password REDACTED --y"),
        ("shell, quoted", "sh\n-c\nx --token='a b' && ls", "sh\n-c\nx --token='REDACTED' && ls"),
        ("shell, glued quotes", "sh\n-c\nx --token='a b'c; ls", "sh\n-c\nx --token=REDACTED; ls"),
        (
            "shell, escaped quotes",
            "sh\n-c\nx --token=\\\"a b\\\" ls",
            "sh\n-c\nx --token=\\\"REDACTED\\\" ls",
        ),
        (
            "shell, header",
            "sh\n-c\ncurl -H 'Authorization: Bearer a' h",
            "sh\n-c\ncurl -H 'Authorization: REDACTED' h",
        ),
        (
            "shell, mysql",
            "sh\n-c\ncd /; mysql -pabc -e 'x'",
            "sh\n-c\ncd /; mysql -pREDACTED -e 'x'",
        ),
        ("shell, curl", "sh\n-c\ncurl -u bob:abc h", "sh\n-c\ncurl -u bob:REDACTED h"),
        (
            "apostrophe before",
            "sh\n-c\necho don't; x --token=abc",
            "sh\n-c\necho don't; x --token=REDACTED",
        ),
        ("a token anywhere", "x\nghp_abcDEF123\ny", "x\nghp_REDACTED\ny"),
        ("JSON Web Token", "x\neyJhbGci.eyJzdWIi.sig-_1", "x\neyJREDACTED"),
        ("empty value", "x\n--password=\ny", "x\n--password=\ny"),
    ];
    for (why, input, expected) in cases {
        assert_eq!(args(&line(input)), line(expected), "{why}");
        let again = args(&line(expected));
        assert_eq!(again, line(expected), "{why}, once more");
    }
}

#[test]
fn the_ranges_of_a_block_are_those_of_its_arguments() {
    let mut block = b"mysql\0-psecret\0--password\0p w\0x\0--token=cu".to_vec();
    let ranges = arg_block_ranges(&block);
    fill(&mut block, ranges);
    assert_eq!(block, b"mysql\0-pxxxxxx\0--password\0xxx\0x\0--token=xx");
}

#[test]
fn a_hostile_line_takes_linear_time() {
    for piece in ["token=", "--password ", "a://", "'", "\\\"", "Bearer ", "\"password\":", "://@"]
    {
        let text = piece.repeat(200_000 / piece.len());
        let start = std::time::Instant::now();
        let once = args(&[text.as_str()]);
        assert!(start.elapsed().as_secs() < 5, "{piece}: {} bytes out", once[0].len());
    }
}

fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "--password",
            "password",
            "TOKEN",
            "-p",
            "-u",
            "curl",
            "mysql",
            "Authorization",
            "Bearer",
            "docker",
            "login",
            "://",
            "key",
            "ghp_",
            "eyJ",
            "--no-token",
            "--user",
            "-su",
            "-d",
            "--data",
            "wget",
            "--post-data",
            ";sid=",
        ])
        .prop_map(str::to_owned),
        "[ =:;&?@/'\"\\\\,{}\\-\n]",
        "[a-zé%]{0,3}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn redacting_is_idempotent_and_filler_gives_the_same(
        fragments in prop::collection::vec(fragment(), 0..14)
    ) {
        let input = line(&fragments.concat());
        let once = args(&input);
        prop_assert_eq!(&args(&once), &once);

        let mut block = input.join("\0").into_bytes();
        let ranges = arg_block_ranges(&block);
        prop_assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start));
        fill(&mut block, ranges);
        let filled: Vec<String> = block
            .split(|&byte| byte == 0)
            .map(|arg| String::from_utf8(arg.to_vec()).unwrap())
            .collect();
        prop_assert_eq!(args(&filled), once);
    }
}
