//! Watches InferenceServices with kube-rs' watcher over a streaming list; prints a line for every event.

use std::time::Duration;

use futures::{StreamExt as _, pin_mut};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt as _};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let _already_chosen = rustls::crypto::ring::default_provider().install_default();
    let kind = GroupVersionKind::gvk("serving.kserve.io", "v1beta1", "InferenceService");
    let resource = ApiResource::from_gvk_with_plural(&kind, "inferenceservices");
    let services: Api<DynamicObject> = Api::all_with(Client::try_default().await?, &resource);
    let events = watcher(services, watcher::Config::default().streaming_lists());
    pin_mut!(events);
    let watch = async {
        while let Some(event) = events.next().await {
            match event? {
                Event::Init => println!("init"),
                Event::InitApply(service) => println!("there {}", service.name_any()),
                Event::InitDone => println!("init done"),
                Event::Apply(service) => println!("applied {}", service.name_any()),
                Event::Delete(service) => println!("deleted {}", service.name_any()),
            }
        }
        Ok::<(), watcher::Error>(())
    };
    tokio::time::timeout(Duration::from_secs(60), watch).await??;
    Ok(())
}
