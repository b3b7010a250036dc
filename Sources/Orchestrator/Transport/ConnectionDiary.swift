import NIOCore
import NIOSSL
import Synchronization

/// What became of one client's connection: whether it ended, and why, in words.
///
/// gRPC reports a handshake that failed as "unavailable"; the reason is kept here.
package final class ConnectionDiary: Sendable {
    private struct Entry {
        var ended = false
        var reason: String?
        var nextID = 0
        var waiting: [Int: CheckedContinuation<Void, Never>] = [:]
    }

    private let entry = Mutex(Entry())

    package init() {}

    /// True once a connection was closed, by either side.
    package var hasEnded: Bool { entry.withLock(\.ended) }

    /// Why the connection failed, where that is known.
    package var reason: String? { entry.withLock(\.reason) }

    /// Returns when the connection was closed, or when the task is cancelled.
    package func waitForEnd() async {
        let id = entry.withLock { entry in
            entry.nextID += 1
            return entry.nextID
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isOver = entry.withLock { entry in
                    guard !entry.ended, !Task.isCancelled else { return true }
                    entry.waiting[id] = continuation
                    return false
                }
                if isOver { continuation.resume() }
            }
        } onCancel: {
            entry.withLock { $0.waiting.removeValue(forKey: id) }?.resume()
        }
    }

    /// Learns of the end of a connection.
    func follow(_ channel: any Channel) {
        channel.closeFuture.whenComplete { [weak self] _ in
            let waiting = self?.entry.withLock { entry in
                entry.ended = true
                defer { entry.waiting = [:] }
                return entry.waiting.values
            }
            for continuation in waiting ?? [:].values { continuation.resume() }
        }
    }

    /// Keeps the first reason: later ones are its consequences.
    func note(_ reason: String) {
        entry.withLock { entry in
            if entry.reason == nil { entry.reason = reason }
        }
    }

    /// Writes down the errors of one connection.
    final class Scribe: ChannelInboundHandler {
        typealias InboundIn = NIOAny

        private let diary: ConnectionDiary

        init(_ diary: ConnectionDiary) {
            self.diary = diary
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            diary.note(Self.describe(error))
            context.fireErrorCaught(error)
        }

        private static func describe(_ error: any Error) -> String {
            switch error {
            case let error as NIOSSLExtraError where error == .failedToValidateHostname:
                "its certificate is another host's"
            case let error as NIOSSLError:
                describe(tls: error)
            case let error as BoringSSLError:
                describe(boring: "\(error)")
            default: "\(error)"
            }
        }

        private static func describe(tls error: NIOSSLError) -> String {
            switch error {
            case .handshakeFailed(let inner): describe(boring: "\(inner)")
            case .uncleanShutdown: "the connection broke"
            default: "\(error)"
            }
        }

        private static func describe(boring text: String) -> String {
            if text.contains("CERTIFICATE_VERIFY_FAILED") { return "its certificate is not of this cluster" }
            if text.contains("UNKNOWN_CA") || text.contains("CERTIFICATE_REQUIRED") || text.contains("BAD_CERTIFICATE")
            {
                return "it does not accept this host's certificate"
            }
            if text.contains("WRONG_VERSION_NUMBER") { return "it does not speak TLS" }
            return text
        }
    }
}
