import Foundation
import Glibc
import LinuxSystem

/// The base images of a host: `<hex>.erofs` and beside it `<hex>.json`.
///
/// An image is there once its record is; both files are written beside and renamed, the record last. Calls block their
/// thread and may come from several processes: changes hold a lock in the directory.
package struct ImageStore: Sendable {
    /// `HostPaths.images`.
    package let directory: String

    /// The images in a directory, which is made when the first one comes.
    package init(directory: String) {
        self.directory = directory
    }

    /// All images, by name and then newest first.
    package func list() -> [ImageRecord] {
        Directories.entries(of: directory).filter { $0.hasSuffix(".json") }.compactMap { record(at: $0) }.sorted {
            ($0.name.isEmpty ? 1 : 0, $0.name, -$0.created, $0.digest)
                < ($1.name.isEmpty ? 1 : 0, $1.name, -$1.created, $1.digest)
        }
    }

    /// The image of a name, of a digest, or of the first digits (at least 8) of one.
    ///
    /// - Throws: `imageMissing`.
    package func resolve(_ reference: String) throws(IsolationError) -> ImageRecord {
        let images = list()
        let digits = reference.hasPrefix(ImageRecord.prefix) ? String(reference.dropFirst(7)) : reference
        let matches = images.filter { image in
            image.name == reference && !reference.isEmpty || digits.utf8.count >= 8 && image.hex.hasPrefix(digits)
        }
        guard let match = matches.first else {
            throw IsolationError(
                .imageMissing,
                cause: "there is no image '\(reference)' on this host",
                remedy: "'smirun image ls' lists the images; 'smirun image build' makes one"
            )
        }
        return match
    }

    /// The erofs file of a digest; nil where this host does not have it.
    package func path(digest: String) -> String? {
        guard let hex = ImageRecord.hex(of: digest), record(at: hex + ".json") != nil else { return nil }
        return file(hex)
    }

    /// Takes a file of this directory's file system in as an image: it is renamed.
    ///
    /// Its contents have been validated. `expected` is the digest that it must have, where that is known.
    func adopt(_ temporary: String, name: String, expected: String? = nil) throws -> ImageRecord {
        try checkName(name)
        let (hex, size) = try ImageDigest.of(temporary)
        if let expected, ImageRecord.hex(of: expected) != hex {
            throw IsolationError(
                .imageInvalid,
                cause: "the image has the digest sha256:\(hex), not \(expected)",
                remedy: "the file is damaged or another one: fetch or build it again"
            )
        }
        return try locked {
            let record = ImageRecord(name: name, digest: "sha256:" + hex, size: size, created: Int64(time(nil)))
            for other in list() where other.name == name && other.hex != hex {
                var nameless = other
                nameless.name = ""
                try write(nameless)
            }
            try syscall("chmod", temporary) { chmod(temporary, 0o644) }
            try Self.synchronize(temporary)
            try syscall("rename", file(hex)) { rename(temporary, file(hex)) }
            try write(record)
            return record
        }
    }

    /// Removes an image.
    ///
    /// - Parameters:
    ///   - reference: name or digest.
    ///   - used: digests of the images that SMIs on this host are made from.
    /// - Throws: `imageMissing`, or `imageInUse`.
    package func remove(_ reference: String, used: Set<String>) throws {
        let record = try resolve(reference)
        guard !used.contains(record.digest), !used.contains(record.hex) else {
            throw IsolationError(
                .imageInUse,
                cause: "the image \(reference) is in use on this host",
                remedy: "'smirun ls -o wide' shows the SMIs made from it; remove them first"
            )
        }
        try locked {
            try syscall("unlink") { unlink(directory + "/" + record.hex + ".json") }
            try syscall("unlink", file(record.hex)) { unlink(file(record.hex)) }
        }
    }

    /// Reads an image and compares its digest.
    ///
    /// - Throws: `imageMissing` or `imageInvalid`.
    package func verify(_ reference: String) throws {
        let record = try resolve(reference)
        let found = try ImageDigest.of(file(record.hex))
        guard found.hex == record.hex, found.size == record.size else {
            throw IsolationError(
                .imageInvalid,
                cause: "the image \(reference) is damaged: its digest is sha256:\(found.hex)",
                remedy: "remove it with 'smirun image rm' and build or import it again"
            )
        }
    }

    // MARK: Files

    func checkName(_ name: String) throws(IsolationError) {
        guard ImageRecord.isName(name) else {
            throw IsolationError(
                .imageInvalid,
                cause: "'\(name)' cannot be the name of an image",
                remedy: "use lower-case letters, digits, '.', '_' and '-', at most 64"
            )
        }
    }

    /// A path in this directory for something under way; `what` tells several apart.
    func temporary(_ what: String) throws -> String {
        try Directories.make(directory)
        return "\(directory)/.\(what)-\(getpid())-\(UInt64.random(in: 0...UInt64.max))"
    }

    private func file(_ hex: String) -> String { directory + "/" + hex + ".erofs" }

    private func record(at name: String) -> ImageRecord? {
        guard let bytes = try? FileContents.bytes(of: directory + "/" + name),
            let record = try? JSONDecoder().decode(ImageRecord.self, from: Data(bytes)),
            ImageRecord.hex(of: record.digest).map({ $0 + ".json" == name }) ?? false,
            Directories.exists(file(record.hex))
        else { return nil }
        return record
    }

    private func write(_ record: ImageRecord) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
        let bytes = Array(try encoder.encode(record)) + [UInt8(ascii: "\n")]
        try FileContents.replace(directory + "/" + record.hex + ".json", with: bytes, mode: 0o644)
    }

    private func locked<Result>(_ body: () throws -> Result) throws -> Result {
        try Directories.make(directory)
        guard let lock = try FileLock.take(directory + "/.lock", before: .now + .seconds(30)) else {
            throw IsolationError(
                .timedOut,
                cause: "another process has been changing the images for 30 s",
                remedy: "wait for it, or end it"
            )
        }
        defer { lock.release() }
        return try body()
    }

    private static func synchronize(_ path: String) throws {
        let file = try Descriptor(open: path, O_RDONLY)
        try syscall("fsync", path) { fsync(file.raw) }
    }
}

extension IsolationError.Code {
    /// An image cannot be removed: an SMI is made from it.
    package static let imageInUse = IsolationError.Code(rawValue: "image-in-use")
    /// A recipe failed.
    package static let imageBuildFailed = IsolationError.Code(rawValue: "image-build-failed")
}
