import Glibc

/// A NULL-terminated array of C strings, as `argv`, that lives as long as its owner.
package final class CStringArray {
    private let storage: UnsafeMutableBufferPointer<UnsafeMutablePointer<CChar>?>

    /// Copies the strings.
    package init(_ strings: [String]) {
        storage = .allocate(capacity: strings.count + 1)
        for (index, string) in strings.enumerated() {
            storage.initializeElement(at: index, to: Self.copy(string))
        }
        storage.initializeElement(at: strings.count, to: nil)
    }

    deinit {
        for string in storage { string?.deallocate() }
        storage.deallocate()
    }

    /// The array for a C call.
    package var pointer: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?> {
        // SAFETY: the buffer holds at least the terminating NULL, so it has an address.
        storage.baseAddress.unsafelyUnwrapped
    }

    /// The array for a C call that does not change it.
    package var constant: UnsafePointer<UnsafeMutablePointer<CChar>?> { UnsafePointer(pointer) }

    /// One of the strings.
    package subscript(index: Int) -> UnsafeMutablePointer<CChar> {
        // SAFETY: the element before the terminator was initialised to a copy.
        storage[index].unsafelyUnwrapped
    }

    private static func copy(_ string: String) -> UnsafeMutablePointer<CChar> {
        var string = string
        return string.withUTF8 { bytes in
            let copy = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count + 1)
            for (index, byte) in bytes.enumerated() { copy[index] = CChar(bitPattern: byte) }
            copy[bytes.count] = 0
            return copy
        }
    }
}

extension Array {
    /// `withUnsafeBufferPointer` that carries a typed error.
    package func withTyped<Result, Failure: Error>(
        _ body: (UnsafeBufferPointer<Element>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let outcome = withUnsafeBufferPointer { buffer -> Swift.Result<Result, Failure> in
            do throws(Failure) {
                return .success(try body(buffer))
            } catch {
                return .failure(error)
            }
        }
        return try outcome.get()
    }
}
