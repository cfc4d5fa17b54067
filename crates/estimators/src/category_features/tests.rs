//! Hashes against those that CatBoost writes; features and what is refused.

use coracle_tensor::{ByteStrings, Column, Columns, Values};

use super::*;
use crate::{InverseLink, LinearScorer, Regressor};

/// The hashes that CatBoost 1.2.10 writes beside the categories of a model (`cat_features_hash`).
#[test]
fn texts_of_every_length_have_catboost_s_hashes() {
    let text = "abcdefghijklmnopqrstuvwxyz0123456789".repeat(6);
    let cases: [(&str, u32); 24] = [
        (&text[..1], 3_489_901_818),
        (&text[..2], 4_090_249_022),
        (&text[..3], 978_243_121),
        (&text[..4], 345_588_365),
        (&text[..7], 163_411_706),
        (&text[..8], 4_270_775_063),
        (&text[..9], 3_019_552_977),
        (&text[..12], 2_045_114_484),
        (&text[..16], 2_150_978_241),
        (&text[..17], 322_581_478),
        (&text[..24], 1_718_090_373),
        (&text[..32], 2_335_930_906),
        (&text[..33], 2_217_718_852),
        (&text[..48], 1_739_989_558),
        (&text[..64], 1_088_087_247),
        (&text[..65], 810_490_489),
        (&text[..100], 3_813_836_278),
        (&text[..127], 1_840_845_075),
        (&text[..128], 4_040_918_288),
        (&text[..129], 2_955_542_720),
        (&text[..200], 3_469_122_395),
        ("", 797_982_799),
        ("Oslo", 4_260_450_586),
        ("\u{e6}\u{20ac}\u{1d11e}", 420_351_028),
    ];
    for (text, hash) in cases {
        let found = category_hash(Cell::Text(Some(text.as_bytes())));
        assert_eq!(found, Ok(hash.cast_signed()), "{text}");
    }
    // Integers are hashed as the text of their digits: these are the categories 3 and 8.
    assert_eq!(category_hash(Cell::Number(3.0)), Ok(593_172_586));
    assert_eq!(
        category_hash(Cell::Number(8.0)),
        Ok(4_274_974_262_u32.cast_signed())
    );
}

/// One category in column 1 beside a number in column 0.
fn features(statistics: Vec<Statistic>, tables: Vec<StatisticTable>) -> CategoryFeatures {
    CategoryFeatures {
        columns: vec![ColumnKind::Numbers, ColumnKind::Category],
        indicators: vec![Indicator {
            column: 1,
            hash: 593_172_586,
        }],
        combinations: vec![Combination {
            categories: vec![1],
            ..Combination::default()
        }],
        tables,
        statistics,
    }
}

/// An estimator that gives feature `read` of `n_features`.
fn reading(read: usize, n_features: usize) -> Box<dyn Estimator> {
    let mut weights = vec![0.0; n_features];
    weights[read] = 1.0;
    let scorer = LinearScorer::try_new(weights, vec![0.0], n_features).unwrap();
    Box::new(Regressor::new(
        Box::new(scorer),
        InverseLink::Identity,
        coracle_model::Width::Scalar,
    ))
}

#[test]
fn indicators_are_one_for_their_category() {
    let estimator = WithCategories::try_new(features(vec![], vec![]), reading(2, 3)).unwrap();
    let texts: ByteStrings = ["3", "4"].into_iter().collect();
    let columns = vec![Column::Numbers(&[0.5, 0.5]), Column::Text(&texts)];
    let table = Table::Columns(Columns::try_new(columns).unwrap());
    let result = estimator.run_table(Method::Predict, &table).unwrap();
    assert_eq!(result.values(), &Values::F64(vec![1.0, 0.0].into()));
    let rows = Rows::try_new(&[0.5, 3.0], 2).unwrap();
    let result = estimator.run(Method::Predict, rows).unwrap();
    assert_eq!(result.values(), &Values::F64(vec![1.0].into()));
    for (category, message) in [
        (3.5, "row 0, column 1: categories are strings or integers"),
        (f64::NAN, "row 0, column 1: missing value"),
        (1e300, "row 0, column 1: categories are strings or integers"),
    ] {
        let rows = [0.5, category];
        let error = estimator.run(Method::Predict, Rows::try_new(&rows, 2).unwrap());
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
}

#[test]
fn what_was_not_counted_is_refused() {
    let statistic = Statistic {
        combination: 0,
        table: 0,
        kind: StatisticKind::AboveBorder(0),
        prior: 0.5,
        prior_denominator: 1.0,
        shift: 0.0,
        scale: 1.0,
    };
    let table = |n_classes| {
        let counts = StatisticCounts::Classes {
            counts: vec![1, 3],
            n_classes,
        };
        StatisticTable::try_new(&[(7, 0)], counts).unwrap()
    };
    let try_new = |statistic, n_classes| {
        let features = features(vec![statistic], vec![table(n_classes)]);
        WithCategories::try_new(features, reading(0, 4)).map(|_| ())
    };
    assert!(try_new(statistic, 2).is_ok());
    assert!(try_new(statistic, 1).is_err());
    for wrong in [
        Statistic {
            table: 1,
            ..statistic
        },
        Statistic {
            combination: 1,
            ..statistic
        },
        Statistic {
            kind: StatisticKind::AboveBorder(1),
            ..statistic
        },
        Statistic {
            kind: StatisticKind::InClass(2),
            ..statistic
        },
        Statistic {
            kind: StatisticKind::Mean,
            ..statistic
        },
        Statistic {
            kind: StatisticKind::Frequency,
            ..statistic
        },
    ] {
        assert!(try_new(wrong, 2).is_err(), "{wrong:?}");
    }
    assert!(StatisticTable::try_new(&[(7, 1)], StatisticCounts::Means(vec![(0.5, 1)])).is_err());
    let too_few = WithCategories::try_new(features(vec![], vec![]), reading(0, 2));
    assert_eq!(
        too_few.unwrap_err().to_string(),
        "3 features for an estimator of 2"
    );
}
