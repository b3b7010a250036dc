import LinuxSystem
import Synchronization

@testable import Isolation

/// Connections that the test ends, and refuses to make again until it wants to.
final class Gate: Sendable {
    private struct State: Sendable {
        var isOpen = true
        var links: [Descriptor] = []
    }

    struct Closed: Error {}

    private let state = Mutex(State())

    func dialler(_ sandbox: InitProcess) -> SessionDial {
        {
            guard self.state.withLock(\.isOpen) else { throw Closed() }
            let link = try sandbox.dial()
            let copy = try link.stream.duplicate()
            self.state.withLock { $0.links.append(copy) }
            return link
        }
    }

    func close() {
        let links = state.withLock { state in
            state.isOpen = false
            defer { state.links = [] }
            return state.links
        }
        links.forEach { StreamSocket.shutdown($0) }
    }

    func open() {
        state.withLock { $0.isOpen = true }
    }
}
