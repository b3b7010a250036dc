import BackingStore
import Glibc
import LinuxSystem

/// The memory of one SMI as a host holds it that does not run it: backing files, and the last epoch they hold whole.
///
/// Not thread-safe: one message after the other, on a thread that may block.
// SAFETY: whoever holds a replica uses it from one place at a time (`ReplicaShelf` hands it out once).
package final class MemoryReplica: @unchecked Sendable {
    /// Most pages of a process that come in first.
    package static let hotLimit = 2048

    private let directory: EpochDirectory
    private(set) package var stores: [Int32: PageStore] = [:]
    /// The last epoch that is held whole, 0 for none.
    private(set) package var epoch: UInt64
    /// Pages that processes will want first, as the last cut said.
    private(set) package var hot: [Int32: [UInt64]] = [:]

    /// Pages of the last cut that belong into CRIU's images.
    private(set) package var imaged: [Int32: [Range<UInt64>]] = [:]

    /// Shared memory as it was in the last round, by the number of its backing file.
    private(set) package var shared: [Int32: SharedShape] = [:]
    /// Shared memory that is made ready for a restore, once that is to be expected.
    private(set) package var fills: SharedFills?

    private struct Round {
        let epoch: UInt64
        let quick: Bool
        var shared: [Int32: SharedShape] = [:]
        /// Why the rest of the round is not taken in.
        var refusal: String?
    }
    private var round: Round?

    /// Opens what a directory holds; a damaged backing file is given up, and with it the epoch.
    package init(directory path: String) throws {
        directory = try EpochDirectory(path)
        epoch = directory.epoch
        shared = directory.shared(of: epoch)
        for inner in directory.processes {
            do {
                stores[inner] = try PageStore.open(at: MemoryFlush.path(of: inner, in: path))
            } catch is PageStoreError {
                unlink(MemoryFlush.path(of: inner, in: path))
                epoch = 0
            }
        }
    }

    /// Takes in one message of the owner; returns what it is to be told.
    package func take(_ message: EpochMessage) throws -> EpochMessage? {
        switch message {
        case .hello:
            drop()
            return .welcome(epoch: epoch)
        case .begin(let epoch, let quick):
            drop()
            round = Round(epoch: epoch, quick: quick)
            imaged = [:]
            if epoch < self.epoch { round?.refusal = "epoch \(epoch) is older than what is here" }
        case .frame(let process, let parent, let bytes):
            try change(process) { store in
                let parent = parent.flatMap { stores[$0] }
                try bytes.withUnsafeBytes { _ = try PageDelta.apply($0, to: store, parent: parent) }
            }
        case .present(let process, let pages):
            try change(process) { try $0.retain(pages) }
        case .hot(let process, let pages):
            hot[process] = Array(pages.joined().prefix(Self.hotLimit))
        case .imaged(let process, let pages):
            imaged[process] = pages
        case .shared(let number, let shape):
            guard SharedNumber.isShared(number) else {
                throw EpochMessageError(description: "\(number) is the number of a process")
            }
            round?.shared[number] = shape
        case .end(let epoch, let processes):
            return try finish(epoch, processes)
        case .welcome, .whole, .behind, .forget:
            throw EpochMessageError(description: "a replica does not take this message")
        }
        return nil
    }

    private func change(_ process: Int32, _ body: (PageStore) throws -> Void) throws {
        guard round != nil else { throw EpochMessageError(description: "pages outside of an epoch") }
        guard round?.refusal == nil else { return }
        do {
            try body(try store(of: process))
        } catch let error as PageStoreError {
            round?.refusal = "process \(process): \(error)"
            if error.code == .corrupt || error.code == .truncated { try giveUp(process) }
            // What is here is not the epoch that it was taken for: everything is asked for again.
            if error.code == .mismatch { try forgetEpoch() }
        }
    }

    private func store(of process: Int32) throws -> PageStore {
        if let store = stores[process] { return store }
        let store = try PageStore.create(at: MemoryFlush.path(of: process, in: directory.path))
        stores[process] = store
        return store
    }

    /// A backing file that cannot be used any more: its pages are asked for again.
    private func giveUp(_ process: Int32) throws {
        stores[process] = nil
        unlink(MemoryFlush.path(of: process, in: directory.path))
        try forgetEpoch()
    }

    private func forgetEpoch() throws {
        epoch = 0
        try directory.note(epoch: 0)
    }

    private func finish(_ number: UInt64, _ processes: [Int32]) throws -> EpochMessage {
        guard let round, round.epoch == number else {
            throw EpochMessageError(description: "the end of an epoch that has not begun")
        }
        defer { self.round = nil }
        if let refusal = round.refusal {
            rollBack()
            return .behind(epoch: epoch, cause: refusal)
        }
        for process in processes {
            let store = try store(of: process)
            let statistics = store.statistics
            guard statistics.isPending || statistics.epoch == 0 else { continue }
            try store.commit(epoch: number, durability: .process, quick: round.quick)
        }
        for process in stores.keys where !processes.contains(process) {
            stores[process] = nil
            unlink(MemoryFlush.path(of: process, in: directory.path))
        }
        shared = round.shared
        if round.quick { try directory.note(shared: shared, of: number) }
        epoch = number
        try directory.note(epoch: number)
        self.round = nil
        fill()
        return .whole(epoch: number)
    }

    /// Sets whether shared memory is kept ready for a restore on this host: filled now, and with every epoch.
    package func keepFilled(_ isKept: Bool) {
        guard isKept != (fills != nil) else { return }
        fills = isKept ? SharedFills() : nil
        fill()
    }

    private func fill() {
        // In the midst of a round the files hold what may yet be rolled back.
        guard let fills, round == nil else { return }
        let shapes = shared.filter { $0.value.object.kind == .file }
        fills.fill(shapes, from: stores, epoch: epoch)
    }

    /// Forgets a round that has not come to its end.
    package func drop() {
        guard round != nil else { return }
        round = nil
        rollBack()
    }

    private func rollBack() {
        for (process, store) in stores {
            do {
                try store.rollback()
            } catch {
                try? giveUp(process)
            }
        }
    }
}

/// The directory with an SMI's backing files, `<pid>.pages` and `<number>.shared`, and a file that says which epoch they hold whole.
package struct EpochDirectory: Sendable {
    package let path: String

    /// Takes a directory, made where it is missing.
    package init(_ path: String) throws(SyscallError) {
        self.path = path
        try Directories.make(path)
    }

    /// The epoch that was noted last; 0 for none.
    package var epoch: UInt64 {
        guard let text = try? FileContents.string(of: path + "/epoch") else { return 0 }
        return UInt64(text.prefix { $0.isNumber }) ?? 0
    }

    /// Notes that every backing file holds an epoch.
    package func note(epoch: UInt64) throws(SyscallError) {
        try FileContents.replace(path + "/epoch", with: Array("\(epoch)\n".utf8))
    }

    /// What has a backing file: processes, by their number inside the sandbox, and shared memory.
    package var processes: [Int32] {
        Directories.entries(of: path).compactMap { name in
            if name.hasSuffix(".shared") { return Int32(name.dropLast(7)).map { $0 + SharedNumber.first } }
            return name.hasSuffix(".pages") ? Int32(name.dropLast(6)) : nil
        }
    }

    /// Notes which shared memory there is in the epoch of a cut.
    func note(shared: [Int32: SharedShape], of epoch: UInt64) throws(SyscallError) {
        var text = "\(epoch)\n"
        for (number, shape) in shared {
            text += "\(number) \(shape.object.kind.rawValue) \(shape.object.inode) \(shape.size)\n"
        }
        try FileContents.replace(path + "/shared", with: Array(text.utf8))
    }

    /// What was noted of the shared memory of an epoch, without the names.
    func shared(of epoch: UInt64) -> [Int32: SharedShape] {
        let text = (try? FileContents.string(of: path + "/shared")) ?? ""
        let lines = text.split(separator: "\n").map { $0.split(separator: " ").compactMap { UInt64($0) } }
        guard lines.first == [epoch] else { return [:] }
        return Dictionary(
            lines.dropFirst().compactMap { line in
                guard line.count == 4, let number = Int32(exactly: line[0]), SharedNumber.isShared(number),
                    let kind = UInt8(exactly: line[1]).flatMap({ SharedObject.Kind(rawValue: $0) })
                else { return nil }
                let object = SharedObject(kind: kind, inode: line[2])
                return (number, SharedShape(object: object, size: line[3], name: ""))
            }
        ) { first, _ in first }
    }

    /// Deletes everything.
    package func remove() throws(SyscallError) {
        try Directories.removeTree(path)
    }
}
