/* LD_PRELOAD shim: what EVP_PKEY_get1_EC_KEY gives belongs to the key it was asked of, as it did until OpenSSL 1.1.
 *
 * OpenSMTPD 6.8 marks its EC key with that call, so that its handshakes ask the process that holds the private half.
 * OpenSSL 3 gives a copy: the mark is lost, and every handshake ends for want of a private key.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

void *EVP_PKEY_get1_EC_KEY(void *pkey)
{
    void *(*get)(void *) = (void *(*)(void *))dlsym(RTLD_NEXT, "EVP_PKEY_get1_EC_KEY");
    int (*set)(void *, void *) = (int (*)(void *, void *))dlsym(RTLD_NEXT, "EVP_PKEY_set1_EC_KEY");
    void *key = get(pkey);
    if (key != NULL)
        set(pkey, key);
    return key;
}
