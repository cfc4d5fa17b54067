//! Secrets as Seldon's users write them: variables of rclone's environment, `RCLONE_CONFIG_S3_ACCESS_KEY_ID`, or those of its older initializer. A remote is
//! the scheme of the URIs that it is for, so `S3` and `GS` are those that say something here.

use super::Credentials;

/// What begins the variables of a remote.
const PREFIX: &str = "RCLONE_CONFIG_";
/// rclone's options of the remote `S3`, with the names that secrets have for them here.
const S3: [(&str, &str); 4] = [
    ("ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"),
    ("SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY"),
    ("SESSION_TOKEN", "AWS_SESSION_TOKEN"),
    ("REGION", "AWS_DEFAULT_REGION"),
];
const GS_KEY: (&str, &str) = (
    "SERVICE_ACCOUNT_CREDENTIALS",
    "gcloud-application-credentials.json",
);
const ENDPOINT: &str = "serving.kserve.io/s3-endpoint";

/// Puts what variables of rclone say beside the data, under the names that are read; what is there already stays.
pub(super) fn translate(credentials: &mut Credentials) {
    let said = |credentials: &Credentials, remote: &str, option: &str| {
        let text = credentials.data.get(&format!("{PREFIX}{remote}_{option}"));
        text.filter(|text| !text.is_empty()).cloned()
    };
    let options = S3.iter().map(|pair| ("S3", pair)).chain([("GS", &GS_KEY)]);
    for (remote, (option, name)) in options {
        if let Some(text) = said(credentials, remote, option) {
            let data = &mut credentials.data;
            data.entry((*name).to_owned()).or_insert(text);
        }
    }
    // MinIO is an S3 with an address of its own.
    let older = || credentials.data.get("AWS_ENDPOINT_URL").cloned();
    let endpoint = said(credentials, "S3", "ENDPOINT").or_else(older);
    if let Some(endpoint) = endpoint.filter(|endpoint| !endpoint.is_empty()) {
        let annotations = &mut credentials.annotations;
        annotations.entry(ENDPOINT.to_owned()).or_insert(endpoint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(data: &[(&str, &str)], endpoint: Option<&str>) -> Credentials {
        let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        let mut credentials = Credentials {
            data: data.iter().map(owned).collect(),
            ..Credentials::default()
        };
        let annotation = endpoint.map(|endpoint| (ENDPOINT.to_owned(), endpoint.to_owned()));
        credentials.annotations.extend(annotation);
        translate(&mut credentials);
        credentials
    }

    /// The secret of Seldon's tutorials with MinIO.
    #[test]
    fn the_secret_of_seldons_tutorials_says_what_kserves_does() {
        let rclone = [
            ("RCLONE_CONFIG_S3_TYPE", "s3"),
            ("RCLONE_CONFIG_S3_PROVIDER", "minio"),
            ("RCLONE_CONFIG_S3_ENV_AUTH", "false"),
            ("RCLONE_CONFIG_S3_ACCESS_KEY_ID", "minioadmin"),
            ("RCLONE_CONFIG_S3_SECRET_ACCESS_KEY", "secret"),
            (
                "RCLONE_CONFIG_S3_ENDPOINT",
                "http://minio.minio-system:9000",
            ),
        ];
        let found = translated(&rclone, None);
        assert_eq!(found.data["AWS_ACCESS_KEY_ID"], "minioadmin");
        assert_eq!(found.data["AWS_SECRET_ACCESS_KEY"], "secret");
        assert_eq!(
            found.annotations[ENDPOINT],
            "http://minio.minio-system:9000"
        );
        // What KServe's annotation says goes before.
        let found = translated(&rclone, Some("other:9000"));
        assert_eq!(found.annotations[ENDPOINT], "other:9000");
    }

    #[test]
    fn what_is_said_under_the_names_that_are_read_stays() {
        let found = translated(
            &[
                ("AWS_ACCESS_KEY_ID", "mine"),
                ("RCLONE_CONFIG_S3_ACCESS_KEY_ID", "other"),
                ("RCLONE_CONFIG_GS_SERVICE_ACCOUNT_CREDENTIALS", "{}"),
                ("RCLONE_CONFIG_MINE_ACCESS_KEY_ID", "nobody's"),
                ("AWS_ENDPOINT_URL", "http://old:9000"),
                ("RCLONE_CONFIG_S3_ENDPOINT", ""),
            ],
            None,
        );
        assert_eq!(found.data["AWS_ACCESS_KEY_ID"], "mine");
        assert_eq!(found.data["gcloud-application-credentials.json"], "{}");
        assert_eq!(found.annotations[ENDPOINT], "http://old:9000");
        assert!(translated(&[("a", "b")], None).annotations.is_empty());
    }
}
