import LinuxSystem

/// A stream of epochs to the host of one replica; messages arrive in the order in which they are sent.
package protocol EpochLink: Sendable {
    /// Where its messages pass through: who has to answer them at once does so there.
    var thread: SerialThread { get }
    /// Hands a message to the transport; waits while it is behind.
    func send(_ message: EpochMessage) async throws
    /// The replica's next answer; nil once it has ended the stream.
    func next() async throws -> EpochMessage?
    /// Ends the stream.
    func close()
}

/// Why a replica could not be brought up to date.
package struct ReplicaError: Error, Sendable, CustomStringConvertible {
    package let cause: String
    package let remedy: String

    /// An error.
    package init(cause: String, remedy: String) {
        self.cause = cause
        self.remedy = remedy
    }

    /// The cause.
    package var description: String { cause }
}

/// Lets the cut of one SMI overtake the background rounds of others on the same link.
package actor LinkPriority {
    private var cuts: [String: Int] = [:]
    private var waiting: [String: [CheckedContinuation<Void, Never>]] = [:]

    /// No cut is under way.
    package init() {}

    /// A cut to a host begins.
    package func beginCut(to host: String) {
        cuts[host, default: 0] += 1
    }

    /// A cut to a host has ended.
    package func endCut(to host: String) {
        cuts[host, default: 1] -= 1
        guard cuts[host] == 0 else { return }
        cuts[host] = nil
        for waiter in waiting.removeValue(forKey: host) ?? [] { waiter.resume() }
    }

    /// Returns once no cut is on its way to a host.
    package func giveWay(to host: String) async {
        while cuts[host] != nil {
            await withCheckedContinuation { waiting[host, default: []].append($0) }
        }
    }
}
