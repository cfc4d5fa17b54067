//! Tables from files, cut into requests and fitted to what a model takes.

use coracle_pickle::{Limits, read_npy};
use coracle_protocol::client::NamedTensor;
use coracle_tensor::{ByteStrings, DType, Tensor, Values, bf16, f16};

use crate::TensorMetadata;

/// Rows of cells, with the columns' names where there are some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    names: Option<Vec<String>>,
    rows: Vec<Vec<String>>,
    n_columns: usize,
}

impl Table {
    /// Reads CSV. The first line holds the names of the columns, unless all of it are numbers.
    ///
    /// # Errors
    /// In words, with the line.
    pub fn from_csv(bytes: &[u8]) -> Result<Self, String> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .from_reader(bytes);
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|error| error.to_string())?;
            rows.push(record.iter().map(str::to_owned).collect::<Vec<String>>());
        }
        let is_header = rows
            .first()
            .is_some_and(|row| row.iter().any(|cell| cell.trim().parse::<f64>().is_err()));
        let names = is_header.then(|| rows.remove(0));
        let names = names.map(|names| names.iter().map(|name| name.trim().to_owned()).collect());
        Self::try_new(names, rows)
    }

    /// Reads a numpy array of numbers: a table, or a list, which is one column.
    ///
    /// # Errors
    /// In words.
    pub fn from_npy(bytes: &[u8]) -> Result<Self, String> {
        let array = read_npy(bytes, &Limits::default()).map_err(|error| error.to_string())?;
        let values = array.to_f64s().ok_or("holds no numbers")?;
        let n_columns = match array.shape() {
            [_] => 1,
            [_, n_columns] if *n_columns > 0 => *n_columns,
            shape => {
                return Err(format!(
                    "has the shape {shape:?}; rows and columns are needed"
                ));
            }
        };
        // As text a double is what it was.
        let cell = |value: &f64| {
            if value.is_nan() {
                String::new()
            } else {
                value.to_string()
            }
        };
        let rows = values.chunks(n_columns);
        let rows = rows.map(|row| row.iter().map(cell).collect()).collect();
        Self::try_new(None, rows)
    }

    fn try_new(names: Option<Vec<String>>, rows: Vec<Vec<String>>) -> Result<Self, String> {
        let n_columns = rows.first().map_or(0, Vec::len);
        if n_columns == 0 {
            return Err("holds no rows".to_owned());
        }
        Ok(Self {
            names,
            rows,
            n_columns,
        })
    }

    /// Returns the number of rows.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.rows.len()
    }

    /// Returns the inputs of a request with `n_rows` rows from row `start` on; after the last row comes the first again.
    ///
    /// # Errors
    /// In words: columns that the model wants and the table lacks, cells that are no number where one belongs.
    pub fn inputs(
        &self,
        start: usize,
        n_rows: usize,
        metadata: Option<&[TensorMetadata]>,
    ) -> Result<Vec<NamedTensor>, String> {
        let rows: Vec<usize> = (start..start + n_rows)
            .map(|row| row % self.rows.len())
            .collect();
        match metadata {
            None => self.guessed(&rows),
            Some([input]) if input.shape.len() == 2 && input.datatype != "BYTES" => {
                Ok(vec![self.matrix(&rows, input)?])
            }
            Some([input]) if self.n_columns == 1 => Ok(vec![self.column(&rows, 0, input)?]),
            Some(inputs) => {
                let columns = inputs.iter().map(|input| {
                    let index = self.index_of(&input.name)?;
                    self.column(&rows, index, input)
                });
                columns.collect()
            }
        }
    }

    /// Without metadata: one table of numbers, or a column for each name.
    fn guessed(&self, rows: &[usize]) -> Result<Vec<NamedTensor>, String> {
        let is_number = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells
                .clone()
                .all(|cell| cell.trim().is_empty() || cell.trim().parse::<f64>().is_ok())
        };
        let input = |name: &str, datatype: &str, shape: Vec<i64>| TensorMetadata {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape,
            columns: Vec::new(),
        };
        if (0..self.n_columns).all(is_number) {
            let all = input("instances", "FP64", vec![-1, -1]);
            return Ok(vec![self.matrix(rows, &all)?]);
        }
        let names = self.names.iter().flatten().enumerate();
        let columns = names.map(|(index, name)| {
            let datatype = if is_number(index) { "FP64" } else { "BYTES" };
            self.column(rows, index, &input(name, datatype, vec![-1]))
        });
        columns.collect()
    }

    fn index_of(&self, name: &str) -> Result<usize, String> {
        let Some(names) = &self.names else {
            return Err(format!(
                "has no names of columns in its first line, but the model takes {name:?} by name"
            ));
        };
        let found = names.iter().position(|known| known == name);
        found.ok_or_else(|| format!("has no column {name:?}; it has {}", names.join(", ")))
    }

    /// Returns which columns of the table make up the matrix that `input` is.
    fn columns_of(&self, input: &TensorMetadata) -> Result<Vec<usize>, String> {
        if let (Some(names), false) = (&self.names, input.columns.is_empty())
            && input.columns.iter().any(|column| names.contains(column))
        {
            return input
                .columns
                .iter()
                .map(|name| self.index_of(name))
                .collect();
        }
        let expected = input
            .shape
            .get(1)
            .and_then(|size| usize::try_from(*size).ok());
        match expected {
            Some(expected) if expected != self.n_columns => Err(format!(
                "has {} columns, the model takes {expected}",
                self.n_columns
            )),
            _ => Ok((0..self.n_columns).collect()),
        }
    }

    fn matrix(&self, rows: &[usize], input: &TensorMetadata) -> Result<NamedTensor, String> {
        let columns = self.columns_of(input)?;
        let cells = rows
            .iter()
            .flat_map(|row| columns.iter().map(move |column| (*row, *column)));
        let shape = vec![rows.len(), columns.len()];
        self.tensor(cells, shape, input)
    }

    fn column(
        &self,
        rows: &[usize],
        column: usize,
        input: &TensorMetadata,
    ) -> Result<NamedTensor, String> {
        let shape = if input.shape.len() == 2 {
            vec![rows.len(), 1]
        } else {
            vec![rows.len()]
        };
        self.tensor(rows.iter().map(|row| (*row, column)), shape, input)
    }

    fn tensor(
        &self,
        cells: impl Iterator<Item = (usize, usize)>,
        shape: Vec<usize>,
        input: &TensorMetadata,
    ) -> Result<NamedTensor, String> {
        let dtype = DType::from_name(&input.datatype).ok_or_else(|| {
            format!(
                "input {:?} has the unknown datatype {:?}",
                input.name, input.datatype
            )
        })?;
        let cells = cells.map(|(row, column)| {
            let cell = self.rows.get(row).and_then(|cells| cells.get(column));
            (row, column, cell.map_or("", String::as_str))
        });
        let values = values(dtype, cells)?;
        let tensor = Tensor::try_new(shape, values).map_err(|error| error.to_string())?;
        Ok(NamedTensor {
            name: input.name.clone(),
            tensor,
        })
    }
}

/// Returns the values of `cells`, each with its row and column; empty cells are missing values.
fn values<'a>(
    dtype: DType,
    cells: impl Iterator<Item = (usize, usize, &'a str)>,
) -> Result<Values, String> {
    macro_rules! parsed {
        ($variant:ident, $parse:expr) => {{
            let parse = $parse;
            let values = cells.map(|(row, column, cell)| {
                parse(cell.trim()).ok_or_else(|| {
                    format!(
                        "row {}, column {}: {cell:?} where {dtype} belongs",
                        row + 1,
                        column + 1
                    )
                })
            });
            Values::$variant(values.collect::<Result<_, String>>()?)
        }};
    }
    let double = |cell: &str| {
        if cell.is_empty() {
            Some(f64::NAN)
        } else {
            cell.parse::<f64>().ok()
        }
    };
    Ok(match dtype {
        DType::Bool => parsed!(Bool, |cell: &str| match cell {
            "1" | "true" | "True" | "TRUE" => Some(true),
            "0" | "false" | "False" | "FALSE" => Some(false),
            _ => None,
        }),
        DType::U8 => parsed!(U8, |cell: &str| cell.parse().ok()),
        DType::U16 => parsed!(U16, |cell: &str| cell.parse().ok()),
        DType::U32 => parsed!(U32, |cell: &str| cell.parse().ok()),
        DType::U64 => parsed!(U64, |cell: &str| cell.parse().ok()),
        DType::I8 => parsed!(I8, |cell: &str| cell.parse().ok()),
        DType::I16 => parsed!(I16, |cell: &str| cell.parse().ok()),
        DType::I32 => parsed!(I32, |cell: &str| cell.parse().ok()),
        DType::I64 => parsed!(I64, |cell: &str| cell.parse().ok()),
        DType::F16 => parsed!(F16, |cell: &str| double(cell).map(f16::from_f64)),
        DType::BF16 => parsed!(BF16, |cell: &str| double(cell).map(bf16::from_f64)),
        DType::F32 => parsed!(F32, |cell: &str| double(cell).map(|value| value as f32)),
        DType::F64 => parsed!(F64, double),
        DType::Bytes => {
            let mut strings = ByteStrings::new();
            for (_row, _column, cell) in cells {
                strings.push_optional(Some(cell.as_bytes()).filter(|cell| !cell.is_empty()));
            }
            Values::Bytes(strings)
        }
    })
}

#[cfg(test)]
mod tests {
    use coracle_protocol::client::{v1_json, v2_json};

    use super::*;

    fn input(name: &str, datatype: &str, shape: &[i64], columns: &[&str]) -> TensorMetadata {
        TensorMetadata {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: shape.to_vec(),
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn rows_become_requests() {
        let table = Table::from_csv(b"1,2\n3,\n5,6.5\n").unwrap();
        let x = [input("X", "FP32", &[-1, 2], &[])];
        let inputs = table.inputs(1, 3, Some(&x)).unwrap();
        let expected = r#"{"instances":[[3.0,null],[5.0,6.5],[1.0,2.0]]}"#;
        assert_eq!(text(v1_json(&inputs)), expected);
        let inputs = table.inputs(0, 1, Some(&x)).unwrap();
        let expected =
            r#"{"inputs":[{"name":"X","shape":[1,2],"datatype":"FP32","data":[1.0,2.0]}]}"#;
        assert_eq!(text(v2_json(&inputs)), expected);
    }

    #[test]
    fn named_columns_go_where_the_model_wants_them() {
        let csv = "\u{feff}name,age, fare\n\"Doe, J.\",31,7.25\n,,8\n";
        let table = Table::from_csv(csv.as_bytes()).unwrap();
        // One matrix, whose columns have names: the order is the model's.
        let x = [input("X", "FP64", &[-1, 2], &["fare", "age"])];
        let inputs = table.inputs(0, 2, Some(&x)).unwrap();
        assert_eq!(
            text(v1_json(&inputs)),
            r#"{"instances":[[7.25,31.0],[8.0,null]]}"#
        );
        // An input for each column.
        let columns = [
            input("age", "INT64", &[-1, 1], &[]),
            input("name", "BYTES", &[-1, 1], &[]),
        ];
        let inputs = table.inputs(0, 1, Some(&columns)).unwrap();
        assert_eq!(
            text(v1_json(&inputs)),
            r#"{"instances":[{"age":31,"name":"Doe, J."}]}"#
        );
        // Without metadata texts make it objects.
        let inputs = table.inputs(0, 1, None).unwrap();
        assert_eq!(
            text(v1_json(&inputs)),
            r#"{"instances":[{"name":"Doe, J.","age":31.0,"fare":7.25}]}"#
        );
    }

    #[test]
    fn what_does_not_fit_is_said_with_its_place() {
        let table = Table::from_csv(b"a,b\n1,2\nx,4\n").unwrap();
        let cases: [(&[TensorMetadata], &str); 4] = [
            (
                &[input("X", "FP64", &[-1, 2], &[])],
                "row 2, column 1: \"x\" where FP64 belongs",
            ),
            (
                &[input("X", "FP64", &[-1, 3], &[])],
                "has 2 columns, the model takes 3",
            ),
            (
                &[
                    input("c", "FP64", &[-1], &[]),
                    input("a", "FP64", &[-1], &[]),
                ],
                "has no column \"c\"; it has a, b",
            ),
            (
                &[input("X", "FP64", &[-1, 2], &["a", "z"])],
                "has no column \"z\"",
            ),
        ];
        for (metadata, words) in cases {
            let error = table.inputs(0, 2, Some(metadata)).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        assert!(Table::from_csv(b"a,b\n").unwrap_err().contains("no rows"));
        assert!(Table::from_csv(b"1,2\n3\n").is_err());
    }
}
