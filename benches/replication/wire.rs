//! Traffic between nodes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use distributable::session::{Changes, Value};
use distributable::{ReplicatedStore, SessionStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::{PATIENCE, Result, create};

/// A relay to a node that counts the bytes sent to it.
async fn counting_way(
    bytes: Arc<AtomicU64>,
) -> Result<(SocketAddr, Arc<std::sync::OnceLock<SocketAddr>>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let target = Arc::new(std::sync::OnceLock::<SocketAddr>::new());
    let to = target.clone();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let (bytes, to) = (bytes.clone(), to.clone());
            tokio::spawn(async move {
                if let Some(to) = to.get()
                    && let Ok(far) = TcpStream::connect(to).await
                {
                    forward(near, far, &bytes).await;
                }
            });
        }
    });
    Ok((address, target))
}

async fn forward(near: TcpStream, far: TcpStream, bytes: &AtomicU64) {
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = far.into_split();
    let back = tokio::io::copy(&mut far_in, &mut near_out);
    let forth = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = near_in.read(&mut buffer).await {
            bytes.fetch_add(count as u64, Relaxed);
            if far_out.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    };
    // When either ends, the connection is over.
    tokio::select! {
        _ = back => {}
        () = forth => {}
    }
}

pub(crate) async fn measure() -> Result<()> {
    let bytes = Arc::new(AtomicU64::new(0));
    let (way, target) = counting_way(bytes.clone()).await?;
    let two = ReplicatedStore::builder("node2")
        .bind("127.0.0.1:0")
        .advertise(way.to_string());
    let two = two.start().await?;
    target.set(two.local_addr()).map_err(|_| "set twice")?;
    let one = ReplicatedStore::builder("node1").bind("127.0.0.1:0");
    let one = one.peer(way.to_string()).start().await?;
    met(&one, &two).await?;

    let key = one.new_id().key();
    create(&one, &key, 10 * 1024).await?;
    let changes = 1_000;
    let before = bytes.load(Relaxed);
    for number in 0..changes {
        let base = one.load(&key, None).await?.into_live();
        let mut change = Changes::default();
        let value = format!("{number:08}");
        change.insert("counter".into(), Value::from_bytes(value.as_bytes()));
        one.commit(&key, base.as_ref(), change).await?;
    }
    let each = (bytes.load(Relaxed) - before) / changes;
    println!(
        "wire: {each} bytes for a change of eight bytes in a session of 10 KB, membership included"
    );
    println!("aim: at most 200\n");
    Ok(())
}

async fn met(one: &ReplicatedStore, two: &ReplicatedStore) -> Result<()> {
    let both = async {
        while one.status().members.len() < 2 || !(one.is_ready() && two.is_ready()) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    Ok(timeout(PATIENCE, both).await?)
}
