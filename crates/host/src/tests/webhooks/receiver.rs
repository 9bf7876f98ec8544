//! Somebody who receives webhooks.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::tests::eventually;

pub(super) struct Receiver {
    address: SocketAddr,
    state: Arc<Mutex<Received>>,
    serving: JoinHandle<()>,
}

struct Received {
    deliveries: Vec<Delivery>,
    status: u16,
}

#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub(super) id: String,
    timestamp: String,
    signature: String,
    text: String,
    pub(super) body: Value,
}

impl Receiver {
    pub(super) async fn start() -> Self {
        let state = Arc::new(Mutex::new(Received {
            deliveries: Vec::new(),
            status: 200,
        }));
        let router = Router::new().fallback(receive).with_state(Arc::clone(&state));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            state,
            serving,
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/hook?x=1", self.address)
    }

    /// Answers with this status from now on.
    pub(super) fn answer(&self, status: u16) {
        self.state.lock().unwrap().status = status;
    }

    pub(super) fn seen(&self) -> Vec<Delivery> {
        self.state.lock().unwrap().deliveries.clone()
    }

    pub(super) async fn wait_for(&self, count: usize) -> Vec<Delivery> {
        self.wait_until(|seen| seen.len() >= count).await
    }

    pub(super) async fn wait_until(&self, enough: impl Fn(&[Delivery]) -> bool) -> Vec<Delivery> {
        eventually("the receiver has got it", || enough(&self.seen())).await;
        self.seen()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Delivery {
    pub(super) fn signatures(&self) -> Vec<&str> {
        self.signature.split(' ').collect()
    }

    /// There is a signature with each of these secrets, in this order.
    #[track_caller]
    pub(super) fn verify(&self, secrets: &[&str]) {
        let signed = secrets.iter().map(|secret| {
            let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
            mac.update(format!("{}.{}.{}", self.id, self.timestamp, self.text).as_bytes());
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        });
        assert_eq!(self.signatures(), signed.collect::<Vec<_>>());
    }
}

async fn receive(State(state): State<Arc<Mutex<Received>>>, headers: HeaderMap, text: String) -> Response {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    assert!(header("user-agent").starts_with("Podflare-Webhooks/"));
    assert_eq!(header("content-type"), "application/json");
    let body: Value = serde_json::from_str(&text).unwrap();
    let id = header("webhook-id");
    assert_eq!(body["id"], id.as_str());
    let mut state = state.lock().unwrap();
    state.deliveries.push(Delivery {
        id,
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
        text,
        body,
    });
    let status = StatusCode::from_u16(state.status).unwrap();
    (status, [("location", "http://127.0.0.1:1/")], "thanks").into_response()
}
