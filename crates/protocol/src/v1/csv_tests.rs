//! Tables of CSV, and what they must become. The expected values are pandas' (`read_csv`, as MLflow's server calls it), the expected refusals those of
//! MLflow's server.

use coracle_model::Signature;
use coracle_tensor::{ByteStrings, Values};

use super::column_tests::signature as columns;
use super::decode_csv;
use super::tests::{context, signature as numbers};

fn read(table: &str, signature: &Signature) -> Result<Vec<Values>, String> {
    let call = decode_csv(table.as_bytes(), &context(signature));
    let call = call.map_err(|error| error.to_string())?;
    let values = call.inputs.into_iter().map(|input| input.into_parts().1);
    Ok(values.collect())
}

fn table(of: &[f64]) -> Result<Vec<Values>, String> {
    Ok(vec![Values::F64(of.to_vec().into())])
}

fn refused(table: &str, signature: &Signature) -> String {
    read(table, signature).expect_err(table)
}

#[test]
fn numbers_are_read_as_pandas_reads_them() {
    let named = numbers(Some(["age", "income"]), false);
    for (csv, expected) in [
        (
            "age,income\n30,100\n40,200.5\n",
            &[30., 100., 40., 200.5][..],
        ),
        ("income,age\n100,30\n200.5,40", &[30., 100., 40., 200.5]),
        ("age,income\n 30 , 100 \n", &[30., 100.]),
        ("\"age\",\"income\"\r\n\"30\",\"1e2\"\r\n", &[30., 100.]),
        ("age,income\r30,100\r40,5\r", &[30., 100., 40., 5.]),
        ("\n\nage,income\n\n30,100\n   \n40,5", &[30., 100., 40., 5.]),
        ("\u{feff}age,income\n30,100\n", &[30., 100.]),
        ("age,income\n30,True\n31,FALSE\n", &[30., 1., 31., 0.]),
        (
            "age,income\n30,.5\n31,5.\n32,1E+2\n+33,-.5e-1\n",
            &[30., 0.5, 31., 5., 32., 100., 33., -0.05],
        ),
        (
            "age,income\n30,12345678901234567890123\n",
            &[30., 12345678901234567890123.],
        ),
    ] {
        assert_eq!(read(csv, &named), table(expected), "{csv:?}");
    }
    // Without names of its own a model takes the columns as they come.
    let nameless = numbers(None, false);
    assert_eq!(read("b,a\n1,2\n", &nameless), table(&[1., 2.]));
}

#[test]
fn missing_values_have_pandas_names() {
    let takes_missing = numbers(Some(["a", "b"]), true);
    let nothing = [
        "", "\"\"", "NA", "NaN", "nan", "-nan", "null", "NULL", "None", "N/A", "n/a", "#N/A",
        "<NA>", "1.#IND", "-1.#QNAN",
    ];
    for nothing in nothing {
        let values = read(&format!("a,b\n1,{nothing}\n2,3\n"), &takes_missing).unwrap();
        let Values::F64(values) = &values[0] else {
            panic!("{values:?}");
        };
        assert!(values[1].is_nan(), "{nothing}");
        assert_eq!((values[0], &values[2..]), (1., &[2., 3.][..]), "{nothing}");
    }
    let short = read("a,b\n1\n2,3\n", &takes_missing).unwrap();
    assert_eq!(format!("{short:?}").matches("NaN").count(), 1, "{short:?}");
    let message = refused("a,b\n1,\n", &numbers(Some(["a", "b"]), false));
    assert_eq!(
        message,
        "csv[0].b: null (a missing value), this model takes numbers only"
    );
}

#[test]
fn texts_stay_as_they_are_written() {
    let csv = "age,city,unused\n30,Köln,1\n31,007,x\n32,\"a\"\"b, c\nd\",\n33,True,\n34,,\n35,\"\",\n36,None,\n37, x ,\n38,\"q\"r,\n";
    let mut cities = ByteStrings::new();
    for city in [
        Some("Köln"),
        Some("007"),
        Some("a\"b, c\nd"),
        Some("True"),
        None,
        None,
        None,
        Some(" x "),
        Some("qr"),
    ] {
        cities.push_optional(city.map(str::as_bytes));
    }
    let ages: Vec<f64> = (30..39).map(f64::from).collect();
    let expected = vec![Values::Bytes(cities), Values::F64(ages.into())];
    assert_eq!(read(csv, &columns()), Ok(expected));
}

#[test]
fn categories_that_are_whole_numbers_may_have_a_fraction() {
    let mut signature = columns();
    signature.inputs[0].accepts_integers = true;
    let values = read(
        "city,age\n3.0,1\n4,1\n007,1\n-2.00,1\n2.5,1\nx.0,1\n",
        &signature,
    );
    let cities = ["3", "4", "007", "-2", "2.5", "x.0"];
    let cities: ByteStrings = cities.into_iter().collect();
    assert_eq!(values.unwrap()[0], Values::Bytes(cities));
}

#[test]
fn columns_that_mlflows_signature_does_not_name_are_passed_over() {
    let mut signature = numbers(Some(["age", "income"]), false);
    let csv = ",age,income,zip\n0,30,100,x\n1,40,200,y\n";
    assert_eq!(
        refused(csv, &signature),
        "csv[0]: unknown features \"Unnamed: 0\", \"zip\"; the model has age, income"
    );
    signature.name_rules.mlflow_names_columns = true;
    assert_eq!(read(csv, &signature), table(&[30., 100., 40., 200.]));
}

#[test]
fn what_is_no_table_is_refused() {
    let named = numbers(Some(["age", "income"]), false);
    for (csv, why) in [
        ("", "the table is empty; its first line"),
        ("\n \n", "the table is empty; its first line"),
        ("age,income\n", "\"csv\" is empty"),
        ("age\n30\n", "csv[0]: features missing: income"),
        (
            "age;income\n30;1\n",
            "csv[0]: unknown feature \"age;income\"",
        ),
        (
            "age,income\n30,abc\n",
            "csv[0].income: a string where a number",
        ),
        (
            "age,income\n30,1 2\n",
            "csv[0].income: a string where a number",
        ),
        (
            "age,income\n30,0x10\n",
            "csv[0].income: a string where a number",
        ),
        (
            "age,income\n30,+1_0\n",
            "csv[0].income: a string where a number",
        ),
        ("age,income\n30,inf\n", "csv[0].income: inf is out of range"),
        ("age,income\n30,\"12\n", "the table ends within quotes"),
        (
            "age,income\n30,1\n31,2,3\n",
            "csv[1]: more values than the 2 columns",
        ),
        (
            "age,age,income\n30,1,2\n",
            "csv[0]: feature \"age\" occurs twice",
        ),
    ] {
        let message = refused(csv, &named);
        assert!(message.starts_with(why), "{csv:?}: {message}");
    }
    let error = decode_csv(b"a,b\n1,\xff\n", &context(&named)).unwrap_err();
    assert!(error.to_string().contains("not UTF-8"), "{error}");
    let many = "x,".repeat(super::csv::COLUMNS_MAX);
    assert_eq!(refused(&many, &named), "csv: more than 1048576 columns");
    let rows = "1,2\n".repeat(501);
    let message = refused(&format!("age,income\n{rows}"), &named);
    assert_eq!(message, "more than 1000 values; send smaller batches");
}

#[test]
fn failures_have_the_codes_that_mlflow_gives_their_statuses() {
    // `mlflow.exceptions.HTTP_STATUS_TO_ERROR_CODE`, but for 409 and 499, which are not answered here.
    for (status, code) in [
        (400, "BAD_REQUEST"),
        (404, "ENDPOINT_NOT_FOUND"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "INTERNAL_ERROR"),
        (501, "NOT_IMPLEMENTED"),
        (503, "TEMPORARILY_UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
    ] {
        let body = super::invocations_error(status, "a \"b\"");
        let expected = format!(r#"{{"error_code":"{code}","message":"a \"b\""}}"#);
        assert_eq!(String::from_utf8(body), Ok(expected));
    }
}
