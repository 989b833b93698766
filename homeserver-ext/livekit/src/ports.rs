//! Ports of the loopback interface for servers that start later, end, and start again.

use std::{
    io,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use tokio::net::TcpSocket;

/// What keeps our ports ours.
static KEPT: Mutex<Vec<TcpSocket>> = Mutex::new(Vec::new());

/// A port that nobody else is given while this process lives.
///
/// A socket stays bound to it and never listens. The kernel gives the port then neither to those
/// who ask for any nor to a connection on its way out, and refuses whoever connects to it; a server
/// that asks for it by number, with `SO_REUSEADDR` as servers do, listens there all the same. Other
/// systems than Linux see that differently: there the port is only free a moment ago.
///
/// # Errors
/// There is none.
pub fn free_port() -> io::Result<u16> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let port = socket.local_addr()?.port();
    if cfg!(target_os = "linux") {
        KEPT.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
    }
    Ok(port)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{
        io::ErrorKind,
        net::{SocketAddr, TcpListener, TcpStream},
    };

    use tokio::net::TcpSocket;

    use super::free_port;

    #[test]
    fn a_port_stays_ours_while_its_server_comes_and_goes() {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
        for _ in 0..3 {
            let refused = TcpStream::connect(address).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            let stranger = TcpSocket::new_v4().unwrap();
            assert_eq!(stranger.bind(address).unwrap_err().kind(), ErrorKind::AddrInUse);
            let server = TcpListener::bind(address).unwrap();
            TcpStream::connect(address).unwrap();
            drop(server);
        }
    }
}
